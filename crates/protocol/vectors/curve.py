"""X25519 (RFC 7748) and Ed25519 (RFC 8032) with whole numbers of any size. Slow, not constant-time: for vectors only."""

import hashlib

P = 2**255 - 19
L = 2**252 + 27742317777372353535851937790883648493
D = -121665 * pow(121666, -1, P) % P
ROOT = pow(2, (P - 1) // 4, P)


def x25519(scalar: bytes, coordinate: bytes) -> bytes:
    """The Montgomery ladder."""
    k = int.from_bytes(scalar, "little")
    k = (k & ~7 & (2**255 - 1)) | 2**254
    x1 = int.from_bytes(coordinate, "little") % 2**255 % P
    x2, z2, x3, z3 = 1, 0, x1, 1
    swapped = 0
    for bit in range(254, -1, -1):
        now = k >> bit & 1
        if swapped ^ now:
            x2, x3, z2, z3 = x3, x2, z3, z2
        swapped = now
        a, b = (x2 + z2) % P, (x2 - z2) % P
        aa, bb = a * a % P, b * b % P
        e = (aa - bb) % P
        da, cb = (x3 - z3) * a % P, (x3 + z3) * b % P
        x3, z3 = (da + cb) ** 2 % P, x1 * (da - cb) ** 2 % P
        x2, z2 = aa * bb % P, e * (aa + 121665 * e) % P
    if swapped:
        x2, z2 = x3, z3
    return (x2 * pow(z2, P - 2, P) % P).to_bytes(32, "little")


def x25519_public(scalar: bytes) -> bytes:
    return x25519(scalar, (9).to_bytes(32, "little"))


def add(p, q):
    """Affine addition on the twisted Edwards curve; complete, so it doubles too."""
    (x1, y1), (x2, y2) = p, q
    t = D * x1 * x2 * y1 * y2 % P
    x = (x1 * y2 + x2 * y1) * pow(1 + t, -1, P) % P
    y = (y1 * y2 + x1 * x2) * pow(1 - t, -1, P) % P
    return x, y


def multiply(k: int, point):
    result = (0, 1)
    while k:
        if k & 1:
            result = add(result, point)
        point = add(point, point)
        k >>= 1
    return result


def recover_x(y: int, sign: int):
    square = (y * y - 1) * pow(D * y * y + 1, -1, P) % P
    x = pow(square, (P + 3) // 8, P)
    if (x * x - square) % P:
        x = x * ROOT % P
    if (x * x - square) % P or (x == 0 and sign):
        return None
    return P - x if x & 1 != sign else x


BASE_Y = 4 * pow(5, -1, P) % P
BASE = (recover_x(BASE_Y, 0), BASE_Y)


def encode(point) -> bytes:
    x, y = point
    return (y | (x & 1) << 255).to_bytes(32, "little")


def decode(data: bytes):
    number = int.from_bytes(data, "little")
    y, sign = number % 2**255, number >> 255
    x = recover_x(y, sign) if y < P else None
    return None if x is None else (x, y)


def hash_number(*parts: bytes) -> int:
    return int.from_bytes(hashlib.sha512(b"".join(parts)).digest(), "little") % L


def expand(secret: bytes):
    digest = hashlib.sha512(secret).digest()
    a = int.from_bytes(digest[:32], "little")
    return (a & ~7 & (2**255 - 1) & ~(1 << 255)) | 2**254, digest[32:]


def ed25519_public(secret: bytes) -> bytes:
    return encode(multiply(expand(secret)[0], BASE))


def ed25519_sign(secret: bytes, message: bytes) -> bytes:
    a, prefix = expand(secret)
    public = encode(multiply(a, BASE))
    r = hash_number(prefix, message)
    point = encode(multiply(r, BASE))
    s = (r + hash_number(point, public, message) * a) % L
    return point + s.to_bytes(32, "little")


def ed25519_verify_strict(public: bytes, message: bytes, signature: bytes) -> bool:
    """Canonical encodings only, neither point of small order, no cofactor."""
    a, r = decode(public), decode(signature[:32])
    s = int.from_bytes(signature[32:], "little")
    if a is None or r is None or s >= L:
        return False
    if multiply(8, a) == (0, 1) or multiply(8, r) == (0, 1):
        return False
    k = hash_number(signature[:32], public, message)
    return multiply(s, BASE) == add(r, multiply(k, a))


def small_order_points():
    """The eight points of order 1, 2, 4 and 8."""
    y = 2
    while True:
        x = recover_x(y, 0)
        if x is not None:
            point = multiply(L, (x, y))
            points = [multiply(k, point) for k in range(8)]
            if len(set(points)) == 8:
                return sorted(points)
        y += 1


def check():
    """The examples of the RFCs."""
    h = bytes.fromhex
    alice = h("77076d0a7318a57d3c16c17251b26645df4c2f87ebc0992ab177fba51db92c2a")
    bob = h("5dab087e624a8a4b79e17f8b83800ee66f3bb1292618b6fd1c2f8b27ff88e0eb")
    shared = "4a5d9d5ba4ce2de1728e3bf480350f25e07e21c947d19e3376f09b3c1e161742"
    assert x25519(alice, x25519_public(bob)).hex() == shared
    assert x25519(bob, x25519_public(alice)).hex() == shared
    assert (
        x25519(
            h("4b66e9d4d1b4673c5ad22691957d6af5c11b6421e0ea01d42ca4169e7918ba0d"),
            h("e5210f12786811d3f4b7959d0538ae2c31dbe7106fc03c3efc4cd549c715a493"),
        ).hex()
        == "95cbde9476e8907d7aade45cb4b873f88b595a68799fa152e6f8f7647aac7957"
    )
    secret = h("c5aa8df43f9f837bedb7442f31dcb7b166d38535076f094b85ce3a2e0b4458f7")
    public = h("fc51cd8e6218a1a38da47ed00230f0580816ed13ba3303ac5deb911548908025")
    signature = h(
        "6291d657deec24024827e69c3abe01a30ce548a284743a445e3680d7db5ac3ac"
        "18ff9b538d16f290ae67f760984dc6594a7c15e9716ed28dc027beceea1ec40a"
    )
    assert ed25519_public(secret) == public
    assert ed25519_sign(secret, h("af82")) == signature
    assert ed25519_verify_strict(public, h("af82"), signature)
    assert not ed25519_verify_strict(public, h("af83"), signature)
