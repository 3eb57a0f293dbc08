"""Every rule here and in the installed peers, on the same rows, one thread, in one process tree.

Usage: rules.py TESTUDO [N] [D] [F] [--json FILE]

TESTUDO is the release binary. Peers are whatever is installed: NumPy (always), ByzFL 0.0.11, Flower 1.41.0.
Prints seconds (the best of some repetitions), and how many times faster the binary is than the fastest peer. The
binary's seconds are of the rule alone, without reading the file; so are the peers'.
"""
import os

for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ[name] = "1"
import json
import platform
import subprocess
import sys
import tempfile
import time
import warnings

warnings.filterwarnings("ignore")
import numpy as np

arguments = [word for word in sys.argv[1:] if not word.startswith("--")]
out = sys.argv[sys.argv.index("--json") + 1] if "--json" in sys.argv else None
if out:
    arguments.remove(out)
testudo = arguments[0]
n, d, f = (int(word) for word in (arguments[1:] + ["64", "1000000", "10"][len(arguments) - 1 :]))
rows = np.random.default_rng(0).standard_normal((n, d), dtype=np.float32)


def best(work, seconds=3.0, most=5):
    """The shortest of a few runs; long ones run once."""
    times = []
    while len(times) < most and sum(times) < seconds:
        start = time.perf_counter()
        work()
        times.append(time.perf_counter() - start)
    return min(times)


folder = tempfile.TemporaryDirectory()
updates = os.path.join(folder.name, "updates.npy")
np.save(updates, rows)
reference = os.path.join(folder.name, "reference.npy")
np.save(reference, rows[:1])


def ours(rule, *words, repeat=5):
    command = [testudo, "aggregate", "--rule", rule, "--updates", updates, "--threads", "1", "--repeat", str(repeat)]
    done = subprocess.run([*command, *words, "--json"], capture_output=True, text=True)
    if done.returncode:
        return None
    return min(json.loads(done.stdout.splitlines()[-1])["seconds"])


def with_f(kind, more=""):
    return f'kind = "{kind}"; byzantine = {f}{more}'


# Peers, each by rule.
peers = {}


def peer(rule, name, work):
    try:
        peers.setdefault(rule, {})[name] = best(work)
    except Exception as error:  # A peer that refuses the input is no comparison.
        print(f"{name} cannot do {rule}: {str(error)[:80]}", file=sys.stderr)


read = best(lambda: rows.sum())
gram = best(lambda: rows @ rows.T)
peer("mean", "numpy", lambda: rows.mean(0))
peer("median", "numpy", lambda: np.median(rows, axis=0))
peer("trimmed_mean", "numpy", lambda: np.sort(rows, axis=0)[f : n - f].mean(0))
peer("krum", "numpy X@X.T", lambda: rows @ rows.T)
peer("multi_krum", "numpy X@X.T", lambda: rows @ rows.T)
peer("nnm, then mean", "numpy X@X.T", lambda: rows @ rows.T)
try:
    import byzfl
    import torch

    torch.set_num_threads(1)
    tensor = torch.from_numpy(rows)

    def after(pre, rule):
        """Pre-aggregation, then the rule, on a copy: some pre-aggregations write into what they are given."""
        return lambda x: rule(pre(x.copy() if isinstance(x, np.ndarray) else x.clone()))

    table = {
        "mean": byzfl.Average(),
        "median": byzfl.Median(),
        "trimmed_mean": byzfl.TrMean(f),
        "meamed": byzfl.Meamed(f),
        "krum": byzfl.Krum(f),
        "multi_krum": byzfl.MultiKrum(f),
        "geometric_median": byzfl.GeometricMedian(),
        "centered_clipping": byzfl.CenteredClipping(tau=10.0),
        "monna": byzfl.MoNNA(f, 0),
        "caf": byzfl.CAF(f),
        "nnm, then mean": after(byzfl.NNM(f), byzfl.Average()),
        "nnm, then trimmed_mean": after(byzfl.NNM(f), byzfl.TrMean(f)),
        "arc, then trimmed_mean": after(byzfl.ARC(f), byzfl.TrMean(f)),
        "arc, nnm, then trimmed_mean": after(lambda x: byzfl.NNM(f)(byzfl.ARC(f)(x)), byzfl.TrMean(f)),
        "clip, then mean": after(byzfl.Clipping(c=10.0), byzfl.Average()),
        "bucketing, then median": after(byzfl.Bucketing(2), byzfl.Median()),
    }
    for rule, apply in table.items():
        peer(rule, "byzfl numpy", lambda: apply(rows))
        peer(rule, "byzfl torch", lambda: apply(tensor))
except ImportError as error:
    print(f"byzfl is not there: {error}", file=sys.stderr)
try:
    import flwr
    from flwr.server.strategy import aggregate as flower

    results = [([row], 1) for row in rows]
    peer("mean", "flower", lambda: flower.aggregate(results))
    peer("median", "flower", lambda: flower.aggregate_median(results))
    peer("trimmed_mean", "flower", lambda: flower.aggregate_trimmed_avg(results, f / n))
    peer("krum", "flower", lambda: flower.aggregate_krum(results, f, 0))
    peer("multi_krum", "flower", lambda: flower.aggregate_krum(results, f, n - f))
    if n >= 4 * f + 3:
        peer("bulyan", "flower", lambda: flower.aggregate_bulyan(list(results), f, flower.aggregate_krum, to_keep=0))
except ImportError as error:
    print(f"flower is not there: {error}", file=sys.stderr)

rules = {
    "mean": ("mean",),
    "median": (with_f("median"),),
    "trimmed_mean": (with_f("trimmed_mean"),),
    "meamed": (with_f("meamed"),),
    "krum": (with_f("krum"),),
    "multi_krum": (with_f("multi_krum"),),
    "bulyan": (with_f("bulyan"),),
    "geometric_median": (with_f("geometric_median"),),
    "centered_clipping": ('kind = "centered_clipping"; radius = 10.0',),
    "monna": (with_f("monna", "; row = 0"),),
    "mda": (with_f("mda"),),
    "cge": (with_f("cge"),),
    "norm_clip": ('kind = "norm_clip"; radius = 10.0',),
    "caf": (with_f("caf"),),
    "dnc": (with_f("dnc", "; iterations = 1"),),
    "fltrust": ("fltrust", "--reference", reference),
    "foolsgold": ("foolsgold",),
    "flame": (with_f("flame"),),
    "signguard": (with_f("signguard"),),
    "rlr": (with_f("rlr", f"; quorum = {f + 1}"),),
    "nnm, then mean": (with_f("mean", '; pre = ["nnm"]'),),
    "nnm, then trimmed_mean": (with_f("trimmed_mean", '; pre = ["nnm"]'),),
    "arc, then trimmed_mean": (with_f("trimmed_mean", '; pre = ["arc"]'),),
    "arc, nnm, then trimmed_mean": (with_f("trimmed_mean", '; pre = ["arc", "nnm"]'),),
    "clip, then mean": ('kind = "mean"; pre = [{ kind = "clip", radius = 10.0 }]',),
    "bucketing, then median": (with_f("median", '; pre = ["bucketing"]'),),
}
versions = {"python": platform.python_version(), "numpy": np.__version__}
for name in ("byzfl", "torch", "flwr"):
    if name in sys.modules:
        from importlib.metadata import version

        versions[name] = version(name)
print(f"{n} rows x {d} f32, f = {f}, one thread; {versions}")
print(f"one streaming read {read * 1e3:.1f} ms ({rows.nbytes / read / 1e9:.1f} GB/s), X @ X.T {gram * 1e3:.1f} ms")
print(f"{'rule':<28} {'here':>9}  {'x read':>6}  {'fastest peer':>24}  {'ratio':>6}")
table = []
for rule, words in rules.items():
    seconds = ours(*words)
    others = peers.get(rule, {})
    name = min(others, key=others.get) if others else "-"
    fastest = others.get(name)
    ratio = f"{fastest / seconds:6.1f}" if fastest and seconds else "     -"
    here = f"{seconds * 1e3:7.1f}ms" if seconds else "  refused"
    reads = f"{seconds / read:6.1f}" if seconds else "     -"
    text = f"{name} {fastest * 1e3:.1f}ms" if fastest else "-"
    print(f"{rule:<28} {here}  {reads}  {text:>24}  {ratio}")
    table.append({"rule": rule, "seconds": seconds, "peers": others})
if out:
    with open(out, "w") as file:
        json.dump({"n": n, "d": d, "f": f, "versions": versions, "read": read, "gram": gram, "rules": table}, file, indent=1)
