"""A Flower client that adds a constant: flower_client.py."""
import logging
import warnings

import flwr as fl
import numpy as np

warnings.filterwarnings("ignore")
logging.disable(logging.CRITICAL)


class Client(fl.client.NumPyClient):
    def fit(self, parameters, config):
        return [parameters[0] + np.float32(0.01)], 1, {}


fl.client.start_client(
    server_address="127.0.0.1:18080", client=Client().to_client(), grpc_max_message_length=1 << 30
)
