"""Transcripts, sharing, graphs, assignment and Merkle trees of suite pairwise/1, written from its specification."""

import hashlib
import math
import struct
from fractions import Fraction

import cipher
import curve

PRIME = 2**61 - 1
LIMB_BITS = (52, 52, 52, 52, 48)


def u8(value):
    return struct.pack("<B", value)


def u32(value):
    return struct.pack("<I", value)


def u64(value):
    return struct.pack("<Q", value)


def f64(value):
    return struct.pack("<d", value)


def prefixed(data: bytes) -> bytes:
    return u32(len(data)) + data


def transcript(label: str, *fields: bytes) -> bytes:
    return prefixed(label.encode()) + b"".join(fields)


def digest(label: str, *fields: bytes) -> bytes:
    return hashlib.sha256(transcript(label, *fields)).digest()


def agreed_key(secret, other, session, label, first, second):
    """`first` and `second` are (place, public key) in the order that both ends agree on."""
    shared = curve.x25519(secret, other)
    assert any(shared)
    info = transcript(label, u32(first[0]), u32(second[0]), first[1], second[1])
    return cipher.hkdf(session, shared, info, 32)


def self_key(seed, session, label, place):
    return cipher.hkdf(session, seed, transcript(label, u32(place)), 32)


def seed_commitment(seed, session, place):
    return digest("b", session, u32(place), seed)


def seal(key, session, sender, receiver, content):
    return cipher.seal(key, session + u32(sender) + u32(receiver), content)


def share(secret: bytes, threshold: int, places, random: bytes):
    """`random` holds eight bytes for each coefficient, by degree and then by limb; none may be the prime."""
    number = int.from_bytes(secret, "little")
    polynomials = []
    for bits in LIMB_BITS:
        polynomials.append([number % 2**bits])
        number >>= bits
    for i in range(5 * (threshold - 1)):
        value = int.from_bytes(random[8 * i : 8 * i + 8], "little") % 2**61
        assert value != PRIME
        polynomials[i % 5].append(value)

    def at(x):
        return b"".join(u64(sum(c * pow(x, k, PRIME) for k, c in enumerate(p)) % PRIME) for p in polynomials)

    return [at(place + 1) for place in places]


def reconstruct(places, shares) -> bytes:
    secret, shift = 0, 0
    for limb, bits in enumerate(LIMB_BITS):
        value = 0
        for place, data in zip(places, shares):
            term = int.from_bytes(data[8 * limb : 8 * limb + 8], "little")
            for other in places:
                if other != place:
                    term = term * (other + 1) * pow(other - place, -1, PRIME) % PRIME
            value += term
        value %= PRIME
        assert value < 2**bits
        secret |= value << shift
        shift += bits
    return secret.to_bytes(32, "little")


def neighbours(count: int, degree, index: int):
    if degree is None:
        return [other for other in range(count) if other != index]
    near = range(1, degree // 2 + 1)
    return sorted({(index + step) % count for step in near} | {(index - step) % count for step in near})


def hypergeometric_counts(population, marked, drawn):
    """Ways to draw x marked ones, for x = 0, 1, …, drawn."""
    return [math.comb(marked, x) * math.comb(population - marked, drawn - x) for x in range(drawn + 1)]


def parameters(count: int, gamma: Fraction, delta: Fraction, malicious: bool):
    """Degree and threshold in exact whole numbers (σ = 40, η = 20)."""
    if gamma + 2 * delta >= Fraction(9, 10):
        return None
    colluders, dropouts = math.floor(gamma * count), math.floor(delta * count)
    for degree in range(2, count, 2):
        ways = math.comb(count, degree)
        lost = math.comb(colluders + dropouts, degree)
        if count * (count - degree - 1) * lost * 2**41 >= 2 * ways:
            continue
        # t1: smallest with P[X > t1] <= 2^-41 / n.
        tail, corrupt = 0, degree
        for x, term in reversed(list(enumerate(hypergeometric_counts(count, colluders, degree)))):
            tail += term
            if tail * 2**41 * count > ways:
                corrupt = x
                break
        else:
            corrupt = 0
        # t2: largest with P[Y < t2] <= 2^-20 / n.
        tail, alive = 0, degree + 1
        for y, term in enumerate(hypergeometric_counts(count, count - dropouts, degree)):
            tail += term
            if tail * 2**20 * count > ways:
                alive = y
                break
        if malicious:
            threshold = math.ceil((corrupt + degree - Fraction(5, 4)) / 2) + 1
        else:
            threshold = max(corrupt + 1, 2)
        if threshold <= alive:
            return degree, threshold
    return None


def complete_threshold(members, group_size, configured):
    least = 2 * members // 3 + 1
    return least if configured is None else max(least, -(-configured * members // group_size))


def assignment_seed(session, server_random, root, count):
    return digest("testudo/assign", session, server_random, root, u32(count))


def assign(seed: bytes, count: int, group_size: int):
    order = list(range(count))
    block, words = 0, []
    for last in range(count - 1, 0, -1):
        bound = last + 1
        while True:
            if not words:
                words = list(struct.unpack("<16I", cipher.chacha20_block(seed, block, bytes(12))))
                block += 1
            word = words.pop(0)
            if word < 2**32 // bound * bound:
                break
        order[last], order[word % bound] = order[word % bound], order[last]
    groups = max(count // group_size, 1)
    length, longer = divmod(count, groups)
    rosters, start = [], 0
    for group in range(groups):
        end = start + length + (group < longer)
        rosters.append(order[start:end])
        start = end
    return rosters


def merkle(leaves):
    """Root and path of every leaf."""
    level = [digest("testudo/merkle/leaf", prefixed(leaf)) for leaf in leaves]
    paths, places = [[] for _ in leaves], list(range(len(leaves)))
    while len(level) > 1:
        for leaf, place in enumerate(places):
            if place ^ 1 < len(level):
                paths[leaf].append(level[place ^ 1])
        pairs = [level[i : i + 2] for i in range(0, len(level), 2)]
        level = [digest("testudo/merkle/node", *pair) if len(pair) == 2 else pair[0] for pair in pairs]
        places = [place // 2 for place in places]
    top = level[0] if level else bytes(32)
    return digest("testudo/merkle/root", u32(len(leaves)), top), paths


def certificate_message(client: str, key: bytes) -> bytes:
    return digest("testudo/certificate/v1", prefixed(client.encode()), key)


def signing_key_text(secret: bytes) -> str:
    prefix = "testudo-signing-key-v1"
    return f"{prefix}:{secret.hex()}:{digest(prefix, secret)[:4].hex()}"
