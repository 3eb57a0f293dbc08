"""The digits protocol a second time, in NumPy and from its description alone, to hold the simulator's accuracies against.

Usage: digits.py DIGITS.csv.gz [SPLITS] [SEEDS]

DIGITS.csv.gz is simulator/data/digits.csv.gz. For each of SPLITS divisions into 1,437 training and 360 test examples, prints
the mean accuracy in % over SEEDS seeds of some cells: 20 clients (16 with data under attack), a network 64-64-10, batches of
32, momentum 0.9 at the clients, learning rate 1, weight decay 1e-4, 100 rounds, f = 4.
"""
import gzip
import sys
from concurrent.futures import ProcessPoolExecutor

import numpy as np

CELLS = [("mean", "none"), ("mean", "labelflip"), ("krum", "none"), ("krum", "mimic"), ("krum", "gaussian")]
SIZES = (4096, 64, 640, 10)
CLIENTS, ATTACKERS, BATCH, TEST = 20, 4, 32, 360


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


def krum(rows):
    wide = rows.astype(np.float64)
    distances = ((wide[:, None] - wide[None]) ** 2).sum(2)
    np.fill_diagonal(distances, np.inf)
    nearest = np.sort(distances, 1)[:, : len(rows) - ATTACKERS - 1]
    return rows[nearest.sum(1).argmin()]


def accuracy(job):
    path, rule, attack, split_seed, seed = job
    features, labels = load(path)
    train, test = split(labels, split_seed)
    random = np.random.default_rng([seed, 2])
    holders = CLIENTS if attack == "none" else CLIENTS - ATTACKERS
    held = np.array_split(random.permutation(train), holders)
    model = random.uniform(-1 / 8, 1 / 8, sum(SIZES)).astype(np.float32)
    momenta = np.zeros((holders, len(model)), np.float32)
    waiting = [np.array([], int)] * holders
    for _ in range(100):
        flipped = np.zeros(len(model))
        for client in range(holders):
            if not len(waiting[client]):
                waiting[client] = random.permutation(held[client])
            batch, waiting[client] = np.split(waiting[client], [min(BATCH, len(waiting[client]))])
            momenta[client] = 0.9 * momenta[client] + 0.1 * gradient(model, features[batch], labels[batch])
            if attack == "labelflip":
                flipped += gradient(model, features[batch], 9 - labels[batch]) / holders
        sent = {"none": None, "labelflip": flipped, "mimic": momenta[0], "gaussian": random.normal(size=len(model))}[attack]
        rows = momenta if sent is None else np.vstack([momenta, *[sent.astype(np.float32)] * ATTACKERS])
        aggregate = krum(rows) if rule == "krum" else rows.mean(0)
        model = model - (aggregate + np.float32(1e-4) * model)
    first, bias, second, last = parts(model)
    predicted = (np.maximum(features[test] @ first + bias, 0) @ second + last).argmax(1)
    return 100 * np.mean(predicted == labels[test])


def main():
    path, splits, seeds = sys.argv[1], *(int(word) for word in (sys.argv[2:4] + ["10", "6"][len(sys.argv) - 2 :]))
    print("split  " + "  ".join(f"{rule}/{attack}" for rule, attack in CELLS))
    table = []
    with ProcessPoolExecutor() as pool:
        for at in range(splits):
            jobs = [(path, rule, attack, at, seed) for rule, attack in CELLS for seed in range(seeds)]
            means = np.array(list(pool.map(accuracy, jobs))).reshape(len(CELLS), seeds).mean(1)
            table.append(means)
            print(f"{at:5}  " + "  ".join(f"{mean:.1f}" for mean in means), flush=True)
    table = np.array(table)
    print("least  " + "  ".join(f"{value:.1f}" for value in table.min(0)))
    print("most   " + "  ".join(f"{value:.1f}" for value in table.max(0)))
    lost = table[:, 0] - table[:, 1]
    print(f"label flips cost the mean {lost.mean():.1f} points (from {lost.min():.1f} to {lost.max():.1f})")


if __name__ == "__main__":
    main()
