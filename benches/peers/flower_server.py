"""One Flower round after another: flower_server.py N D ROUNDS avg|krum. Prints the median round and the peak memory."""
import logging
import resource
import sys
import time
import warnings

import flwr as fl
import numpy as np
from flwr.common import ndarrays_to_parameters

warnings.filterwarnings("ignore")
logging.disable(logging.CRITICAL)
n, d, rounds, kind = int(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]), sys.argv[4]
starts, ends = [], []
base = {"avg": fl.server.strategy.FedAvg, "krum": fl.server.strategy.Krum}[kind]
extra = {"num_malicious_clients": n // 5, "num_clients_to_keep": 0} if kind == "krum" else {}


class Timed(base):
    def configure_fit(self, server_round, parameters, client_manager):
        starts.append(time.perf_counter())
        return super().configure_fit(server_round, parameters, client_manager)

    def aggregate_fit(self, *args, **kwargs):
        result = super().aggregate_fit(*args, **kwargs)
        ends.append(time.perf_counter())
        return result


strategy = Timed(
    fraction_fit=1.0,
    fraction_evaluate=0.0,
    min_fit_clients=n,
    min_evaluate_clients=0,
    min_available_clients=n,
    initial_parameters=ndarrays_to_parameters([np.zeros(d, np.float32)]),
    **extra,
)
fl.server.start_server(
    server_address="127.0.0.1:18080",
    config=fl.server.ServerConfig(num_rounds=rounds),
    strategy=strategy,
    grpc_max_message_length=1 << 30,
)
median = float(np.median(np.array(ends) - np.array(starts)))
print(f"flower {kind}: {median:.3f} s a round, {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024:.0f} MiB")
