"""Mask expansion, folding and quantising here and in NumPy, a million coordinates, one thread, in one process tree.

Usage: masks.py BENCH [--json FILE]

BENCH is the binary of `cargo bench -p testudo-benches --bench masks --no-run`. The peers are NumPy (any version), the
way implementations of secure aggregation on top of it work: a seeded generator draws one integer of the ring per
coordinate, and the mask is added. Prints milliseconds, the best of some repetitions on either side.
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

import numpy as np

arguments = sys.argv[1:]
out = None
if "--json" in arguments:
    at = arguments.index("--json")
    out = arguments[at + 1]
    del arguments[at : at + 2]
if len(arguments) != 1:
    sys.exit(__doc__)
bench = arguments[0]
d, ring, clients, bits, kappa = 1_000_000, 2**32, 16, 20, 1.0


def best(work, seconds=2.0, most=10):
    """The shortest of a few runs, in seconds."""
    times = []
    while len(times) < most and sum(times) < seconds:
        start = time.perf_counter()
        work()
        times.append(time.perf_counter() - start)
    return min(times)


sums = np.zeros(d, np.int64)
words = np.zeros(d, np.uint32)


def legacy_int64():
    """The global generator, int64, reduced after the add."""
    np.random.seed(7)
    np.mod(np.add(sums, np.random.randint(0, ring, d, dtype=np.int64), out=sums), ring, out=sums)


def legacy_uint32():
    """The same generator, drawing whole words into an accumulator that wraps by itself."""
    np.random.seed(7)
    np.add(words, np.random.randint(0, ring, d, dtype=np.uint32), out=words)


def generator_uint32():
    """NumPy's default generator, which is no cryptographic one either."""
    np.add(words, np.random.default_rng(7).integers(0, ring, d, dtype=np.uint32), out=words)


inputs = [np.full(d, seed, np.uint32) for seed in range(clients)]


def fold():
    for row in inputs:
        np.add(words, row, out=words)


update = (np.random.default_rng(0).random(d, dtype=np.float32) * 2 - 1).astype(np.float32)


def quantise():
    """Weight, clip, stochastic rounding, in f64, with random numbers of the default generator."""
    scaled = update.astype(np.float64) * 0.5
    scaled *= min(1.0, 10.0 / np.linalg.norm(scaled))
    np.clip(scaled, -kappa, kappa, out=scaled)
    scaled += kappa
    scaled *= (2**bits - 1) / (2 * kappa)
    scaled += np.random.default_rng(7).random(d)
    return np.minimum(scaled, 2**bits - 1).astype(np.uint32)


def mean():
    return (words * (2 * kappa / (2**bits - 1)) / clients - kappa).astype(np.float32)


numpy = {
    "mask": {
        "MT19937 int64": best(legacy_int64),
        "MT19937 uint32": best(legacy_uint32),
        "PCG64 uint32": best(generator_uint32),
    },
    "fold 16": {"add": best(fold)},
    "quantise": {"f64": best(quantise)},
    "mean": {"f64": best(mean)},
}
rows = [
    ("mask", "aes", "AES-256-CTR"),
    ("mask", "chacha20", "ChaCha20"),
    ("fold 16", "fold16", ""),
    ("quantise", "quantize/aes", "AES-256-CTR"),
    ("quantise", "quantize/chacha20", "ChaCha20"),
    ("mean", "mean", ""),
]


def find(home, name):
    """The shortest time of one iteration, in seconds; criterion writes `/` in names as `_`."""
    path = os.path.join(home, "masks", name.replace("/", "_"), "new", "sample.json")
    with open(path) as file:
        sample = json.load(file)
    return min(total / count for total, count in zip(sample["times"], sample["iters"])) / 1e9


with tempfile.TemporaryDirectory() as home:
    command = [bench, "--bench", "--noplot", "^masks/(aes|chacha20|fold16|quantize/.*|mean)$"]
    subprocess.run(command, check=True, capture_output=True, env={**os.environ, "CRITERION_HOME": home})
    ours = {name: find(home, name) for _, name, _ in rows}

versions = {"python": platform.python_version(), "numpy": np.__version__}
print(f"{d} coordinates, one thread; {versions}")
print(f"{'':<10} {'here':<12} {'ms':>8}   {'peer':<16} {'ms':>8}  {'ratio':>6}")
for kind, name, how in rows:
    for peer, seconds in numpy[kind].items():
        ratio = seconds / ours[name]
        print(f"{kind:<10} {how:<12} {ours[name] * 1e3:8.3f}   {peer:<16} {seconds * 1e3:8.3f}  {ratio:6.1f}")
if out:
    with open(out, "w") as file:
        json.dump({"d": d, "versions": versions, "seconds": ours, "peers": numpy}, file, indent=1)
