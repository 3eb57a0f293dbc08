"""The digits protocol a second time, in NumPy and from its description alone, to hold the simulator's accuracies against.

DIGITS.csv.gz is simulator/data/digits.csv.gz. For each of SPLITS divisions into 1,437 training and 360 test examples, prints
the mean accuracy in % over SEEDS seeds of some cells: 20 clients (16 with data under attack), a network 64-64-10, batches of
32, momentum 0.9 at the clients, learning rate 1, weight decay 1e-4, 100 rounds, f = 4. The options change one of these, to
see which change would give another implementation's numbers.
"""
import argparse
import gzip
from concurrent.futures import ProcessPoolExecutor
from functools import lru_cache

import numpy as np

CELLS = "mean/none,mean/labelflip,krum/none,krum/mimic,krum/gaussian"
SIZES = (4096, 64, 640, 10)
ATTACKERS, BATCH, TEST = 4, 32, 360


@lru_cache
def load(path):
    with gzip.open(path, "rt") as file:
        rows = np.array([[float(value) for value in line.split(",")] for line in file.read().split()])
    return (rows[:, :64] / 16).astype(np.float32), rows[:, 64].astype(int)


def split(labels, seed):
    """Each class in proportion, by largest remainders."""
    random = np.random.default_rng([seed, 1])
    shares = np.bincount(labels) * TEST / len(labels)
    counts = shares.astype(int)
    for label in np.argsort(counts - shares, kind="stable")[: TEST - counts.sum()]:
        counts[label] += 1
    held_out = [random.permutation(np.flatnonzero(labels == label))[:count] for label, count in enumerate(counts)]
    held_out = np.sort(np.concatenate(held_out))
    return np.setdiff1d(np.arange(len(labels)), held_out), held_out


def parts(model):
    first, bias, second, last = np.split(model, np.cumsum(SIZES)[:-1])
    return first.reshape(64, 64), bias, second.reshape(64, 10), last


def gradient(model, examples, labels):
    first, bias, second, last = parts(model)
    hidden = np.maximum(examples @ first + bias, 0)
    logits = hidden @ second + last
    error = np.exp(logits - logits.max(1, keepdims=True))
    error /= error.sum(1, keepdims=True)
    error[np.arange(len(labels)), labels] -= 1
    error /= len(labels)
    inner = (error @ second.T) * (hidden > 0)
    return np.concatenate([(examples.T @ inner).ravel(), inner.sum(0), (hidden.T @ error).ravel(), error.sum(0)])


def divide(random, train, labels, parts, alpha):
    """Who holds what: equal parts, or of each class Dirichlet shares, drawn again until everybody holds four."""
    if not alpha:
        return np.array_split(random.permutation(train), parts)
    while True:
        held = [[] for _ in range(parts)]
        for label in range(10):
            rows = random.permutation(train[labels[train] == label])
            cuts = (np.cumsum(random.dirichlet([alpha] * parts))[:-1] * len(rows)).astype(int)
            for part, some in zip(held, np.split(rows, cuts)):
                part.extend(some)
        if min(map(len, held)) >= 4:
            return [np.array(part) for part in held]


def squared_distances(rows):
    wide = rows.astype(np.float64)
    distances = ((wide[:, None] - wide[None]) ** 2).sum(2)
    np.fill_diagonal(distances, np.inf)
    return distances


def krum(distances, neighbours):
    return np.sort(distances, 1)[:, :neighbours].sum(1).argmin()


def bulyan(rows):
    distances, left, chosen = squared_distances(rows), list(range(len(rows))), []
    for _ in range(len(rows) - 2 * ATTACKERS):
        chosen.append(left.pop(krum(distances[np.ix_(left, left)], max(1, len(left) - ATTACKERS - 1))))
    chosen = rows[chosen]
    nearest = np.argsort(abs(chosen - np.median(chosen, 0)), 0, kind="stable")[: len(rows) - 4 * ATTACKERS]
    return np.take_along_axis(chosen, nearest, 0).mean(0)


def aggregated(rule, rows):
    """`krum` counts n - f - 1 neighbours, `krum:K` K of them."""
    if rule == "mean":
        return rows.mean(0)
    if rule == "bulyan":
        return bulyan(rows)
    neighbours = rule.partition(":")[2] or len(rows) - ATTACKERS - 1
    return rows[krum(squared_distances(rows), int(neighbours))]


def accuracy(job):
    settings, rule, attack, split_seed, seed = job
    features, labels = load(settings.path)
    train, test = split(labels, split_seed)
    random = np.random.default_rng([seed, 2])
    holders = settings.clients if attack == "none" else settings.clients - ATTACKERS
    parts_held = divide(random, train, labels, min(settings.parts, holders), settings.alpha)
    held = [parts_held[client % len(parts_held)] for client in range(holders)]
    keep = np.float32(settings.momentum)
    model = random.uniform(-1 / 8, 1 / 8, sum(SIZES)).astype(np.float32)
    momenta = np.zeros((holders, len(model)), np.float32)
    waiting = [np.array([], int)] * holders
    for _ in range(100):
        flipped = np.zeros(len(model))
        for client in range(holders):
            if not len(waiting[client]):
                waiting[client] = random.permutation(held[client])
            batch, waiting[client] = np.split(waiting[client], [min(BATCH, len(waiting[client]))])
            momenta[client] = keep * momenta[client] + (1 - keep) * gradient(model, features[batch], labels[batch])
            if attack == "labelflip":
                flipped += gradient(model, features[batch], 9 - labels[batch]) / holders
        sent = {"none": None, "labelflip": flipped, "mimic": momenta[0], "gaussian": random.normal(size=len(model))}[attack]
        rows = momenta if sent is None else np.vstack([momenta, *[sent.astype(np.float32)] * ATTACKERS])
        model = model - (aggregated(rule, rows).astype(np.float32) + np.float32(1e-4) * model)
    first, bias, second, last = parts(model)
    predicted = (np.maximum(features[test] @ first + bias, 0) @ second + last).argmax(1)
    return 100 * np.mean(predicted == labels[test])


def arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("path", metavar="DIGITS.csv.gz")
    parser.add_argument("splits", metavar="SPLITS", type=int, nargs="?", default=10)
    parser.add_argument("seeds", metavar="SEEDS", type=int, nargs="?", default=6)
    parser.add_argument("--cells", default=CELLS, help="RULE/ATTACK,…: rules mean, krum, krum:NEIGHBOURS, bulyan")
    parser.add_argument("--clients", type=int, default=20, help="everybody, the 4 attackers among them")
    parser.add_argument("--parts", type=int, default=20, help="parts of the data; clients beyond them share the first ones")
    parser.add_argument("--alpha", type=float, default=0, help="of Dirichlet parts; without it equal parts")
    parser.add_argument("--momentum", type=float, default=0.9)
    parser.add_argument("--jobs", type=int, help="processes")
    return parser.parse_args()


def main():
    settings = arguments()
    cells = [cell.split("/") for cell in settings.cells.split(",")]
    print("split  " + "  ".join(map("/".join, cells)))
    table = []
    with ProcessPoolExecutor(settings.jobs) as pool:
        for at in range(settings.splits):
            jobs = [(settings, rule, attack, at, seed) for rule, attack in cells for seed in range(settings.seeds)]
            means = np.array(list(pool.map(accuracy, jobs))).reshape(len(cells), settings.seeds).mean(1)
            table.append(means)
            print(f"{at:5}  " + "  ".join(f"{mean:.1f}" for mean in means), flush=True)
    table = np.array(table)
    for name, values in [("least", table.min(0)), ("mean", table.mean(0)), ("most", table.max(0))]:
        print(f"{name:5}  " + "  ".join(f"{value:.1f}" for value in values))
    deviations = table.std(0, ddof=1) if settings.splits > 1 else np.zeros(len(cells))
    print("sd     " + "  ".join(f"{value:.1f}" for value in deviations))


if __name__ == "__main__":
    main()
