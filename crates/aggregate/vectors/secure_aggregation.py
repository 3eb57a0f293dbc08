"""Reference of the mask streams and the quantiser in plain Python, from the standards and the design alone.

Usage: secure_aggregation.py > secure_aggregation.json

Needs nothing but Python 3.8. The block functions check themselves against FIPS 197 and RFC 8439 before anything is
written. Floats are written as their bits.
"""
import json
import math
import struct

MASK = 0xFFFFFFFF


def bits64(value):
    return struct.unpack("<Q", struct.pack("<d", value))[0]


def bits32(value):
    return struct.unpack("<I", struct.pack("<f", value))[0]


def f32(value):
    return struct.unpack("<f", struct.pack("<f", value))[0]


# AES-256, FIPS 197.


def times(a, b):
    product = 0
    while b:
        if b & 1:
            product ^= a
        a = (a << 1) ^ (0x11B if a & 0x80 else 0)
        b >>= 1
    return product


def substitution():
    table = []
    for byte in range(256):
        inverse = next((x for x in range(256) if times(byte, x) == 1), 0)
        bits = inverse
        for turn in range(1, 5):
            bits ^= ((inverse << turn) | (inverse >> (8 - turn))) & 0xFF
        table.append(bits ^ 0x63)
    return table


S = substitution()


def aes256_keys(key):
    words = [list(key[4 * i : 4 * i + 4]) for i in range(8)]
    constant = 1
    for i in range(8, 60):
        word = list(words[-1])
        if i % 8 == 0:
            word = [S[x] for x in word[1:] + word[:1]]
            word[0] ^= constant
            constant = times(constant, 2)
        elif i % 8 == 4:
            word = [S[x] for x in word]
        words.append([a ^ b for a, b in zip(words[i - 8], word)])
    return [sum(words[4 * r : 4 * r + 4], []) for r in range(15)]


def aes256(keys, block):
    state = [a ^ b for a, b in zip(block, keys[0])]
    for r in range(1, 15):
        state = [S[x] for x in state]
        state = [state[(i + 4 * (i % 4)) % 16] for i in range(16)]
        if r < 14:
            mixed = []
            for c in range(4):
                column = state[4 * c : 4 * c + 4]
                for i in range(4):
                    a, b, d, e = (column[(i + j) % 4] for j in range(4))
                    mixed.append(times(a, 2) ^ times(b, 3) ^ d ^ e)
            state = mixed
        state = [a ^ b for a, b in zip(state, keys[r])]
    return bytes(state)


def aes_words(key, first, count):
    keys, words = aes256_keys(key), []
    for j in range(first // 4, (first + count + 3) // 4):
        words += struct.unpack("<4I", aes256(keys, struct.pack("<Q", j) + bytes(8)))
    return words[first % 4 :][:count]


# ChaCha20, RFC 8439.


def chacha20(key, counter, nonce):
    start = list(struct.unpack("<4I", b"expand 32-byte k")) + list(struct.unpack("<8I", key))
    start += [counter] + list(struct.unpack("<3I", nonce))
    s = list(start)

    def turn(x, n):
        return ((x << n) | (x >> (32 - n))) & MASK

    def quarter(a, b, c, d):
        for first, second in ((16, 12), (8, 7)):
            s[a] = (s[a] + s[b]) & MASK
            s[d] = turn(s[d] ^ s[a], first)
            s[c] = (s[c] + s[d]) & MASK
            s[b] = turn(s[b] ^ s[c], second)

    for _ in range(10):
        for i in range(4):
            quarter(i, 4 + i, 8 + i, 12 + i)
        for i in range(4):
            quarter(i, 4 + (i + 1) % 4, 8 + (i + 2) % 4, 12 + (i + 3) % 4)
    return [(a + b) & MASK for a, b in zip(s, start)]


def chacha_words(key, first, count):
    words = []
    for j in range(first // 16, (first + count + 15) // 16):
        words += chacha20(key, j, bytes(12))
    return words[first % 16 :][:count]


plain = bytes.fromhex("00112233445566778899aabbccddeeff")
assert aes256(aes256_keys(bytes(range(32))), plain).hex() == "8ea2b7ca516745bfeafc49904b496089"  # FIPS 197, C.3
assert struct.pack("<16I", *chacha20(bytes(range(32)), 1, bytes.fromhex("000000090000004a00000000"))).hex() == (
    "10f1e7e4d13b5915500fdd1fa32071c4c7d1f4c733c068030422aa9ac3d46c4e"
    "d2826446079faa0914c2d705d98b02a2b5129cd1de164eb9cbd083e8a2503c4e"
)  # RFC 8439, 2.3.2


# The quantiser.


def quantise(update, weight, clip, kappa, bits, random):
    lanes = [0.0] * 8
    for i, value in enumerate(update):
        lanes[i % 8] += value * value  # The product of two f32 is exact.
    a, b, c, d, e, f, g, h = lanes
    norm = math.sqrt(((a + e) + (c + g)) + ((b + f) + (d + h)))
    norm = norm * weight * (1.0 + (len(update) + 64) * 2.0**-53)
    factor = 1.0 if norm <= clip else clip / norm
    top = 2**bits - 1
    levels, saturated = [], 0
    for value, word in zip(update, struct.unpack("<%dI" % len(update), random)):
        scaled = value * (weight * factor)
        saturated += abs(scaled) > kappa
        position = min(max(scaled, -kappa), kappa) * (top / (2.0 * kappa)) + top / 2.0
        levels.append(min(math.floor(position + ((word >> 8) + 0.5) / 2**24), top))
    return levels, factor, saturated


def mean(sums, clients, kappa, bits):
    step = 2.0 * kappa / (2**bits - 1)
    return [f32(s * step / clients - kappa) for s in sums]


def weighted_mean(sums, clients, weight, kappa, bits):
    top = 2**bits - 1
    step = 2.0 * kappa / top
    return [f32((s * step - clients * kappa) * top / weight) for s in sums]


keys = [bytes(32), bytes(range(32)), bytes((37 * i + 11) % 256 for i in range(32))]
streams = []
for key in keys:
    for first, count in ((0, 40), (1, 7), (1021, 50), (2**32 - 5, 12), (2**36 - 21, 21)):
        streams.append(
            {
                "key": key.hex(),
                "first": first,
                "aes": aes_words(key, first, count),
                "chacha20": chacha_words(key, first, count),
            }
        )

quantised = []
for case, (length, weight, clip, kappa, bits) in enumerate(
    [
        (1, 1.0, 1.0, 1.0, 2),
        (37, 1.0, 1.0, 1.0, 16),
        (37, 0.3, 100.0, 2.5, 16),
        (100, 0.75, 5.0, 0.5, 20),
        (100, 1.0, 1e-3, 1e-4, 24),
        (64, 1.0, 1e4, 1e4, 31),
    ]
):
    words = aes_words(keys[1], 10000 * case, 2 * length)
    update = [f32((w - 2**31) / 2**29) for w in words[:length]]
    random = struct.pack("<%dI" % length, *words[length:])
    levels, factor, saturated = quantise(update, weight, clip, kappa, bits, random)
    weight_level = max(math.floor(weight * (2**bits - 1) + 0.5), 1)
    quantised.append(
        {
            "update": [bits32(x) for x in update],
            "weight": bits64(weight),
            "clip_l2": bits64(clip),
            "kappa": bits64(kappa),
            "bits": bits,
            "random": random.hex(),
            "levels": levels,
            "factor": bits64(factor),
            "saturated": saturated,
            "weight_level": weight_level,
            "mean_of_one": [bits32(x) for x in mean(levels, 1, kappa, bits)],
            "weighted_mean_of_one": [bits32(x) for x in weighted_mean(levels, 1, weight_level, kappa, bits)],
        }
    )

print(json.dumps({"streams": streams, "quantised": quantised}, indent=1))
