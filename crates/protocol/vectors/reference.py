#!/usr/bin/env python3
"""Writes primitives.json and round.json, the vectors of suite pairwise/1. Standard library only, always the same output.

    python3 reference.py            write both
    python3 reference.py --check    compare them with what would be written, and run the standards' examples
"""

import hashlib
import json
import pathlib
import struct
import sys
from fractions import Fraction

sys.dont_write_bytecode = True  # No cache directory beside the vectors.

import cipher
import curve
import scheme
import session as suite

RATES = [(5, 5), (5, 10), (10, 5), (10, 10), (10, 20), (10, 30), (20, 10), (33, 10)]


def some(name: str, length: int = 32) -> bytes:
    """Arbitrary bytes that depend on a name alone."""
    return cipher.chacha20_stream(hashlib.sha256(name.encode()).digest(), length)


def flip(data: bytes, bit: int = 0) -> bytes:
    changed = bytearray(data)
    changed[bit // 8] ^= 1 << bit % 8
    return bytes(changed)


def transcripts():
    fields = [
        ("u8", 0xAB),
        ("u32", 0x01020304),
        ("u64", 2**63 + 5),
        ("f64", -1234.5),
        ("fixed", some("transcript fixed", 7)),
        ("bytes", some("transcript bytes", 9)),
        ("bytes", b""),
        ("text", "Größe"),
    ]
    encoders = {
        "u8": scheme.u8,
        "u32": scheme.u32,
        "u64": scheme.u64,
        "f64": scheme.f64,
        "fixed": bytes,
        "bytes": scheme.prefixed,
        "text": lambda text: scheme.prefixed(text.encode()),
    }
    written = lambda kind, value: {"kind": kind, "value": value.hex() if isinstance(value, bytes) else value}
    cases = []
    for label, chosen in [("testudo/test/v1", fields), ("", []), ("x", fields[:3]), ("testudo/test/v2", fields[::-1])]:
        encoded = [encoders[kind](value) for kind, value in chosen]
        cases.append(
            {
                "label": label,
                "fields": [written(kind, value) for kind, value in chosen],
                "encoding": scheme.transcript(label, *encoded).hex(),
                "digest": scheme.digest(label, *encoded).hex(),
            }
        )
    return cases


def agreements():
    ours, theirs = some("agreement ours"), some("agreement theirs")
    session = some("session")

    def case(what, ends, label, our_place, their_place, ours=ours, theirs=theirs, session=session):
        our_key, their_key = curve.x25519_public(ours), curve.x25519_public(theirs)
        first, second = (our_place, our_key), (their_place, their_key)
        if ends == "receiving" or (ends == "pair" and our_place > their_place):
            first, second = second, first
        return {
            "what": what,
            "ends": ends,
            "label": label,
            "our_place": our_place,
            "their_place": their_place,
            "our_secret": ours.hex(),
            "our_public": our_key.hex(),
            "their_secret": theirs.hex(),
            "their_public": their_key.hex(),
            "session": session.hex(),
            "key": scheme.agreed_key(ours, their_key, session, label, first, second).hex(),
        }

    return [
        case("box sent", "sending", "box", 3, 8),
        case("box received", "receiving", "box", 3, 8),
        case("pairwise mask, AES", "pair", "mask/aes256ctr", 3, 8),
        case("pairwise mask, AES, higher place", "pair", "mask/aes256ctr", 8, 3),
        case("pairwise mask, ChaCha20", "pair", "mask/chacha20", 3, 8),
        case("another place of ours", "pair", "mask/chacha20", 2, 8),
        case("another place of theirs", "pair", "mask/chacha20", 3, 9),
        case("another session", "pair", "mask/chacha20", 3, 8, session=flip(session, 255)),
        case("another secret of ours", "pair", "mask/chacha20", 3, 8, ours=some("agreement other")),
        case("another secret of theirs", "pair", "mask/chacha20", 3, 8, theirs=some("agreement other")),
    ]


def refused_public_keys():
    prime = curve.P
    # Coordinates of small order on the curve or its twist: 0, 1, -1 and the two of order 8.
    orders_of_eight = [
        "e0eb7a7c3b41b8ae1656e3faf19fc46ada098deb9c32b1fd866205165f49b800",
        "5f9c95bca3508c24b1d0b1559c83ef5b04445cc4581c8e86d8224eddd09f1157",
    ]
    small = [x.to_bytes(32, "little").hex() for x in (0, 1, prime - 1)] + orders_of_eight
    assert all(not any(curve.x25519(some("any"), bytes.fromhex(key))) for key in small)
    large = [prime, prime + 1, prime + 9, 2**255 - 1, 2**255, 2**255 + 9, 2**256 - 1]
    return {
        "small_order": small,
        "not_canonical": [x.to_bytes(32, "little").hex() for x in large],
    }


def self_keys():
    cases = []
    session, seed = some("session"), some("self seed")
    for label, place, seed, session in [
        ("self/aes256ctr", 5, seed, session),
        ("self/chacha20", 5, seed, session),
        ("self/chacha20", 6, seed, session),
        ("self/chacha20", 5, flip(seed, 0), session),
        ("self/chacha20", 5, seed, flip(session, 0)),
    ]:
        cases.append(
            {
                "label": label,
                "place": place,
                "seed": seed.hex(),
                "session": session.hex(),
                "key": scheme.self_key(seed, session, label, place).hex(),
                "commitment": scheme.seed_commitment(seed, session, place).hex(),
            }
        )
    return cases


def boxes():
    cases = []
    for length in (0, 1, 80, 200):
        key, session, content = some(f"box key {length}"), some("session"), some(f"box {length}", length)
        sealed = scheme.seal(key, session, 3, 8, content)
        box = lambda what, **other: {
            "what": what,
            "key": key.hex(),
            "session": session.hex(),
            "sender": 3,
            "receiver": 8,
            "sealed": sealed.hex(),
        } | other
        cases.append(
            box("good")
            | {
                "content": content.hex(),
                "refused": [
                    box("key", key=flip(key, 7).hex()),
                    box("session", session=flip(session, 100).hex()),
                    box("sender", sender=4),
                    box("receiver", receiver=7),
                    box("ends exchanged", sender=8, receiver=3),
                    box("first bit", sealed=flip(sealed, 0).hex()),
                    box("last bit", sealed=flip(sealed, 8 * len(sealed) - 1).hex()),
                    box("cut", sealed=sealed[:-1].hex()),
                    box("longer", sealed=(sealed + b"\0").hex()),
                    box("nothing", sealed=""),
                ],
            }
        )
    return cases


def streams():
    words = lambda data: list(struct.unpack(f"<{len(data) // 4}I", data))
    cases = []
    for number in range(2):
        key = some(f"stream {number}")
        for name, stream, block, late in [
            ("aes256ctr", cipher.aes256_stream, 16, 2**32 + 5),
            ("chacha20", cipher.chacha20_stream, 64, 2**32 - 2),
        ]:
            case = {"cipher": name, "key": key.hex(), "first_words": words(stream(key, 4 * 100))}
            # Far into the stream, to pin the counter's width.
            case["late_word"] = late * block // 4
            case["late_words"] = words(stream(key, 4 * 16, late))
            cases.append(case)
    return cases


def sharings():
    cases = []
    for name, secret, threshold, places, chosen in [
        ("two of two", some("shared 0"), 2, [0, 1], [1, 0]),
        ("three of five", some("shared 1"), 3, [0, 1, 2, 3, 4], [4, 0, 2]),
        ("all bits zero", bytes(32), 3, [0, 1, 2, 3], [1, 2, 3]),
        ("all bits one", b"\xff" * 32, 3, [0, 1, 2, 3], [0, 1, 3]),
        ("neighbours", some("shared 2"), 4, [7, 2, 99_999, 11, 30, 5], [3, 2, 5, 0]),
        ("larger", some("shared 3"), 11, list(range(16)), list(range(15, 4, -1))),
    ]:
        random = some("coefficients of " + name, 40 * (threshold - 1))
        shares = scheme.share(secret, threshold, places, random)
        assert scheme.reconstruct([places[i] for i in chosen], [shares[i] for i in chosen]) == secret
        cases.append(
            {
                "name": name,
                "secret": secret.hex(),
                "threshold": threshold,
                "places": places,
                "random": random.hex(),
                "shares": [share.hex() for share in shares],
                "chosen": chosen,
            }
        )
    return cases


def refused_shares():
    good = some("refused share", 35)
    limb = lambda value: value.to_bytes(8, "little")
    small = [int.from_bytes(good[7 * i : 7 * i + 7], "little") for i in range(5)]
    wrong = [b"".join(map(limb, small))[:-1], b"".join(map(limb, small)) + b"\0"]
    for value in (scheme.PRIME, scheme.PRIME + 1, 2**64 - 1):
        wrong += [b"".join(map(limb, small[:i] + [value] + small[i + 1 :])) for i in range(5)]
    return [share.hex() for share in wrong]


def decodings():
    """Shares with as many wrong ones as can be corrected."""
    cases = []
    for threshold, count, wrong in [(3, 7, [1, 5]), (2, 3, []), (6, 16, [0, 3, 8, 9, 15]), (4, 6, [2])]:
        secret = some(f"decoded {threshold} {count}")
        random = some(f"decoded coefficients {threshold} {count}", 40 * (threshold - 1))
        shares = scheme.share(secret, threshold, range(count), random)
        for number, place in enumerate(wrong):
            # The first wrong share differs in one limb, the next in two, …
            for i in range(number % 5 + 1):
                value = (int.from_bytes(shares[place][8 * i : 8 * i + 8], "little") + 1 + number) % scheme.PRIME
                shares[place] = shares[place][: 8 * i] + scheme.u64(value) + shares[place][8 * i + 8 :]
        cases.append(
            {
                "threshold": threshold,
                "shares": [share.hex() for share in shares],
                "secret": secret.hex(),
                "bad": wrong,
            }
        )
    return cases


def graphs():
    cases = []
    for count, degree, indices in [(5, None, range(5)), (7, 4, range(7)), (9, 8, [0, 4]), (128, 38, [0, 1, 64, 127])]:
        lists = {str(index): scheme.neighbours(count, degree, index) for index in indices}
        cases.append({"count": count, "degree": degree, "neighbours": lists})
    return cases


def parameters():
    counts = (128, 256, 1_000, 10_000)
    rows = [(n, gamma, delta, bad) for bad in (True, False) for n in counts for gamma, delta in RATES]
    rows += [(1_000, 5, 33, True), (10_000, 5, 33, True)]
    rows += [(101, 29, 10, True), (777, 1, 1, True), (200, 30, 30, True), (150, 0, 0, True), (150, 0, 20, False)]
    # Where the number of possible cuts, n(n - k - 1)/2 and not n²/2 or n(n - k)/2, decides.
    rows += [(n, 0, delta, False) for n, delta in [(104, 35), (122, 23), (167, 11), (221, 19), (479, 21)]]
    cases = []
    for count, gamma, delta, malicious in rows:
        found = scheme.parameters(count, Fraction(gamma, 100), Fraction(delta, 100), malicious)
        case = {"count": count, "gamma_percent": gamma, "delta_percent": delta, "malicious": malicious}
        cases.append(case | {"degree": found and found[0], "threshold": found and found[1]})
    return cases


def thresholds():
    cases = []
    for members, group_size, configured in [
        (n, size, t) for n, size in [(2, 2), (8, 8), (16, 16), (17, 16), (33, 32), (100, 64)] for t in (None, 2, size - 1)
    ]:
        threshold = scheme.complete_threshold(members, group_size, configured)
        case = {"members": members, "group_size": group_size, "configured": configured}
        cases.append(case | {"threshold": threshold})
    return cases


def assignments():
    cases = []
    for count, group_size in [(1, 1), (5, 8), (16, 16), (33, 16), (50, 8), (100, 7)]:
        session, random, root = some("session"), some(f"server {count}"), some(f"root {count}")
        seed = scheme.assignment_seed(session, random, root, count)
        cases.append(
            {
                "session": session.hex(),
                "server_random": random.hex(),
                "server_commitment": hashlib.sha256(random).hexdigest(),
                "advertise_root": root.hex(),
                "count": count,
                "group_size": group_size,
                "seed": seed.hex(),
                "groups": scheme.assign(seed, count, group_size),
            }
        )
    return cases


def merkle_trees():
    cases = []
    for count in (0, 1, 2, 3, 5, 8, 11):
        leaves = [some(f"leaf {count} {i}", i % 50) for i in range(count)]
        root, paths = scheme.merkle(leaves)
        cases.append(
            {
                "leaves": [leaf.hex() for leaf in leaves],
                "root": root.hex(),
                "paths": [[node.hex() for node in path] for path in paths],
            }
        )
    return cases


def forge(weak, message: bytes) -> bytes:
    """A signature for a key of small order that satisfies the equation, with an R that is not of small order."""
    s = 1
    while True:
        for twist in curve.small_order_points():
            r = curve.add(curve.multiply(s, curve.BASE), twist)
            k = curve.hash_number(curve.encode(r), curve.encode(weak), message)
            if curve.add(r, curve.multiply(k, weak)) == curve.multiply(s, curve.BASE):
                return curve.encode(r) + s.to_bytes(32, "little")
        s += 1


def certificates():
    authority, client = some("authority"), some("client")
    key, name = curve.ed25519_public(client), "sensor-17"
    authority_key = curve.ed25519_public(authority)
    message = scheme.certificate_message(name, key)
    signature = curve.ed25519_sign(authority, message)
    assert curve.ed25519_verify_strict(authority_key, message, signature)

    def case(what, client=name, key=key, signature=signature, authority=authority_key):
        message = scheme.certificate_message(client, key)
        good = curve.decode(key) is not None and curve.multiply(8, curve.decode(key)) != (0, 1)
        assert not (good and curve.ed25519_verify_strict(authority, message, signature)), what
        return {
            "what": what,
            "client": client,
            "key": key.hex(),
            "signature": signature.hex(),
            "authority": authority.hex(),
        }

    refused = [
        case("client", client="sensor-18"),
        case("key", key=curve.ed25519_public(some("another client"))),
        case("first bit of R", signature=flip(signature, 0)),
        case("sign of R", signature=flip(signature, 255)),
        case("first bit of S", signature=flip(signature, 256)),
        case("authority", authority=curve.ed25519_public(some("another authority"))),
    ]
    # The same S in another residue: a verifier that reduces it would accept.
    large = int.from_bytes(signature[32:], "little") + curve.L
    refused.append(case("S not reduced", signature=signature[:32] + large.to_bytes(32, "little")))
    # R the neutral point and S = k·a satisfies the equation: a verifier that is not strict would accept.
    neutral = curve.encode((0, 1))
    k = curve.hash_number(neutral, authority_key, message)
    forged = neutral + (k * curve.expand(authority)[0] % curve.L).to_bytes(32, "little")
    s = int.from_bytes(forged[32:], "little")
    assert curve.multiply(s, curve.BASE) == curve.multiply(k, curve.decode(authority_key))
    refused.append(case("R of small order", signature=forged))
    for number, point in enumerate(curve.small_order_points()):
        weak = curve.encode(point)
        # k·A is one of eight points, so anybody finds an R = S·B − k·A: a verifier that is not strict would accept.
        refused.append(case(f"authority of small order, {number}", authority=weak, signature=forge(point, message)))
        # The authority's signature is good, the certified key is not.
        by_authority = curve.ed25519_sign(authority, scheme.certificate_message(name, weak))
        refused.append(case(f"certified key of small order, {number}", key=weak, signature=by_authority))
    return {
        "authority_secret": authority.hex(),
        "authority": authority_key.hex(),
        "client": name,
        "client_secret": client.hex(),
        "client_text": scheme.signing_key_text(client),
        "key": key.hex(),
        "signature": signature.hex(),
        "refused": refused,
        "not_canonical_keys": [
            number.to_bytes(32, "little").hex()
            for y in range(curve.P, 2**255)
            for number in (y, y + 2**255)
            if curve.recover_x(y - curve.P, 0) is not None
        ],
    }


def main() -> int:
    curve.check()
    cipher.check()
    vectors = {
        "suite": "pairwise/1",
        "transcripts": transcripts(),
        "agreements": agreements(),
        "refused_public_keys": refused_public_keys(),
        "self_keys": self_keys(),
        "boxes": boxes(),
        "streams": streams(),
        "sharings": sharings(),
        "refused_shares": refused_shares(),
        "decodings": decodings(),
        "graphs": graphs(),
        "parameters": parameters(),
        "thresholds": thresholds(),
        "assignments": assignments(),
        "merkle_trees": merkle_trees(),
        "certificates": certificates(),
    }
    played = suite.transcript_of_five(some)
    rounds = {"suite": "pairwise/1", "round": played, "refused": suite.refused(played)}
    if sys.argv[1:] not in ([], ["--check"]):
        print(__doc__)
        return 2
    differing = 0
    for name, parts in [("primitives.json", vectors), ("round.json", rounds)]:
        path = pathlib.Path(__file__).with_name(name)
        lines = ",\n".join(f"{json.dumps(part)}: {json.dumps(value)}" for part, value in parts.items())
        text = "{\n" + lines + "\n}\n"
        if not sys.argv[1:]:
            path.write_text(text)
            continue
        same = path.exists() and path.read_text() == text
        differing += not same
        print(f"{name} is up to date" if same else f"{name} differs: run python3 reference.py")
    return 1 if differing else 0


if __name__ == "__main__":
    sys.exit(main())
