"""One masked group of 100 clients here and in Flower's SecAgg+, a million coordinates, a tenth gone, one process tree.

Usage: secagg.py BENCH [--full] [--json FILE]

BENCH is the binary of `cargo bench -p testudo-benches --bench secagg --no-run`. The peer is Flower 1.41.0 (`pip install
flwr`), run by this interpreter: its client's four stages as the mod calls them, without the transport around it, and the
server's work of its workflow's last two stages (sum, rebuild secrets, remove masks, back to numbers), also without
transport. Both sides: complete graph, threshold 67, ten clients gone after they shared their keys, 990 masks to remove.

Prints processor seconds. Ours are the best of some repetitions on one thread; Flower's client is the better of two runs,
its server one run. Rebuilding its 100 secrets takes over a minute, so five of each kind are rebuilt and the rest is
taken to cost the same; --full rebuilds all.
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
from importlib.metadata import version

import numpy as np
from flwr.client.mod.secure_aggregation import secaggplus_mod as mod
from flwr.common import bytes_to_ndarray, ndarrays_to_parameters
from flwr.common.secure_aggregation.crypto.shamir import combine_shares, create_shares
from flwr.common.secure_aggregation.crypto.symmetric_encryption import encrypt, generate_shared_key
from flwr.common.secure_aggregation.ndarrays_arithmetic import (
    factor_extract,
    get_parameters_shape,
    parameters_addition,
    parameters_mod,
    parameters_subtraction,
)
from flwr.common.secure_aggregation.quantization import dequantize
from flwr.common.secure_aggregation.secaggplus_constants import Key
from flwr.common.secure_aggregation.secaggplus_utils import pseudo_rand_gen, share_keys_plaintext_concat
from flwr.supercore.primitives.asymmetric import bytes_to_private_key, bytes_to_public_key

arguments = sys.argv[1:]
full = "--full" in arguments
if full:
    arguments.remove("--full")
out = None
if "--json" in arguments:
    at = arguments.index("--json")
    out = arguments[at + 1]
    del arguments[at : at + 2]
if len(arguments) != 1:
    sys.exit(__doc__)
bench = arguments[0]
clients, gone, threshold, d = 100, 10, 67, 1_000_000
settings = {
    Key.SAMPLE_NUMBER: clients,
    Key.SHARE_NUMBER: clients,
    Key.THRESHOLD: threshold,
    Key.CLIPPING_RANGE: 8.0,
    Key.TARGET_RANGE: 1 << 16,
    Key.MOD_RANGE: 1 << 32,
    Key.MAX_WEIGHT: 1000.0,
}
alive = range(gone, clients)


def cpu(work):
    """Processor seconds of this process, and what the work gives."""
    start = time.process_time()
    result = work()
    return time.process_time() - start, result


# Everybody's keys; the other clients' secrets are shared as far as either side needs them.
states = []
for number in range(clients):
    state = mod.SecAggPlusState()
    state.nid = number
    mod._setup(state, dict(settings))
    state.rd_seed = os.urandom(32)
    states.append(state)
keys = {str(state.nid): (state.pk1, state.pk2) for state in states}
own = clients - 1
update = ndarrays_to_parameters([(np.random.default_rng(0).random(d, dtype=np.float32) * 2 - 1)])


def boxes():
    """What the others seal for the client that is measured: shares of the right length, whatever they are of."""
    secret, key = (create_shares(text, threshold, clients)[0] for text in (os.urandom(32), states[0].sk1))
    sealed = []
    for other in range(own):
        shared = generate_shared_key(bytes_to_private_key(states[other].sk2), bytes_to_public_key(states[own].pk2))
        sealed.append(encrypt(shared, share_keys_plaintext_concat(other, own, secret, key)))
    return sealed


def client(sealed):
    """The four stages of one client. Its keys were made above, so that boxes could be sealed for them."""
    state = states[own]
    seconds = {}
    seconds["keys"], _ = cpu(lambda: mod._setup(mod.SecAggPlusState(), dict(settings)))
    seconds["shares"], _ = cpu(lambda: mod._share_keys(state, dict(keys)))
    inputs = {Key.CIPHERTEXT_LIST: sealed, Key.SOURCE_LIST: list(range(own))}
    seconds["input"], sent = cpu(lambda: mod._collect_masked_vectors(state, inputs, 500, update))
    ask = {Key.ACTIVE_NODE_ID_LIST: list(alive), Key.DEAD_NODE_ID_LIST: list(range(gone))}
    seconds["answer"], _ = cpu(lambda: mod._unmask(state, ask))
    return seconds, sent[Key.MASKED_PARAMETERS]


sealed = boxes()
parts, payload = min((client(sealed) for _ in range(2)), key=lambda run: sum(run[0].values()))


def rebuild(secrets):
    """Secrets out of every survivor's share, as the server receives them."""
    measured = secrets if full else secrets[:5]
    shares = [create_shares(secret, threshold, clients)[gone:] for secret in measured]
    seconds, _ = cpu(lambda: [combine_shares(share) for share in shares])
    return seconds * len(secrets) / len(measured)


def fold():
    total = None
    for _ in alive:
        vector = [bytes_to_ndarray(text) for text in payload]
        total = vector if total is None else parameters_addition(total, vector)
    return parameters_mod(total, 1 << 32)


def unmask(vector):
    """A self-mask for every survivor, and for everybody gone a pairwise mask with each of them."""
    shapes = get_parameters_shape(vector)
    for number in alive:
        vector = parameters_subtraction(vector, pseudo_rand_gen(states[number].rd_seed, 1 << 32, shapes))
    for number in range(gone):
        for other in alive:
            key = generate_shared_key(bytes_to_private_key(states[number].sk1), bytes_to_public_key(states[other].pk1))
            mask = pseudo_rand_gen(key, 1 << 32, shapes)
            vector = parameters_subtraction(vector, mask)
    return parameters_mod(vector, 1 << 32)


def numbers(vector):
    total, vector = factor_extract(vector)
    back = dequantize(vector, 8.0, 1 << 16)
    for array in back:
        array += -(len(alive) - 1) * 8.0
        array *= (1 << 16) / max(int(total), 1)
    return back


server = {}
server["fold"], vector = cpu(fold)
server["rebuild"] = rebuild([states[number].rd_seed for number in alive])
server["rebuild"] += rebuild([states[number].sk1 for number in range(gone)])
server["masks"], vector = cpu(lambda: unmask(vector))
server["numbers"], _ = cpu(lambda: numbers(vector))


def find(home, name):
    """The shortest time of one iteration, in seconds; criterion writes `/` in names as `_`."""
    path = os.path.join(home, "secagg", name.replace("/", "_"), "new", "sample.json")
    with open(path) as file:
        sample = json.load(file)
    return min(total / count for total, count in zip(sample["times"], sample["iters"])) / 1e9


wanted = ["open/100", "unmask/100", "fold/100", "mean/100", "client/100", "quantize"]
with tempfile.TemporaryDirectory() as home:
    command = [bench, "--bench", "--noplot", f"^secagg/({'|'.join(wanted)})$"]
    subprocess.run(command, check=True, capture_output=True, env={**os.environ, "CRITERION_HOME": home})
    ours = {name: find(home, name) for name in wanted}

versions = {"python": platform.python_version(), **{name: version(name) for name in ("flwr", "numpy")}}
print(f"one group of {clients}, {gone} gone, {d} coordinates, processor seconds; {versions}")
if not full:
    print("Flower's rebuilt secrets: five of each kind measured, the rest taken to cost the same")
print("Flower client", {name: round(seconds, 3) for name, seconds in parts.items()})
print("Flower server", {name: round(seconds, 3) for name, seconds in server.items()})
print("here", {name: round(seconds, 5) for name, seconds in ours.items()})
rows = [
    ("server", sum(ours[f"{name}/100"] for name in ("open", "unmask", "fold", "mean")), sum(server.values()), 20),
    ("server's masks alone", ours["unmask/100"], server["masks"], 20),
    ("client", ours["client/100"] + ours["quantize"], sum(parts.values()), 10),
    ("client's input alone", ours["client/100"] + ours["quantize"], parts["input"], 10),
]
print(f"{'':<22} {'here':>10} {'Flower':>10} {'ratio':>7}  goal")
for name, here, there, goal in rows:
    print(f"{name:<22} {here:>9.4f}s {there:>9.3f}s {there / here:>7.1f}  {goal}")
if out:
    with open(out, "w") as file:
        json.dump({"d": d, "versions": versions, "full": full, "here": ours, "client": parts, "server": server}, file, indent=1)
