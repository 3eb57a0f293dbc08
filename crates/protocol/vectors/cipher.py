"""ChaCha20-Poly1305 (RFC 8439), AES-256 (FIPS 197) and HKDF-SHA256 (RFC 5869). For vectors only."""

import hashlib
import hmac
import struct


def hkdf(salt: bytes, material: bytes, info: bytes, length: int) -> bytes:
    key = hmac.new(salt or bytes(32), material, hashlib.sha256).digest()
    output, block = b"", b""
    while len(output) < length:
        block = hmac.new(key, block + info + bytes([len(output) // 32 + 1]), hashlib.sha256).digest()
        output += block
    return output[:length]


def chacha20_block(key: bytes, counter: int, nonce: bytes) -> bytes:
    state = list(struct.unpack("<16I", b"expand 32-byte k" + key + struct.pack("<I", counter) + nonce))
    work = state[:]

    def quarter(a, b, c, d):
        for x, y, z, turn in ((a, b, d, 16), (c, d, b, 12), (a, b, d, 8), (c, d, b, 7)):
            work[x] = (work[x] + work[y]) & 0xFFFFFFFF
            mixed = work[z] ^ work[x]
            work[z] = (mixed << turn | mixed >> (32 - turn)) & 0xFFFFFFFF

    for _ in range(10):
        for i in range(4):
            quarter(i, 4 + i, 8 + i, 12 + i)
        for i in range(4):
            quarter(i, 4 + (i + 1) % 4, 8 + (i + 2) % 4, 12 + (i + 3) % 4)
    return struct.pack("<16I", *((a + b) & 0xFFFFFFFF for a, b in zip(state, work)))


def chacha20_stream(key: bytes, length: int, first: int = 0, nonce: bytes = bytes(12)) -> bytes:
    blocks = range(first, first + (length + 63) // 64)
    return b"".join(chacha20_block(key, block, nonce) for block in blocks)[:length]


def poly1305(key: bytes, message: bytes) -> bytes:
    r = int.from_bytes(key[:16], "little") & 0x0FFFFFFC0FFFFFFC0FFFFFFC0FFFFFFF
    total = 0
    for i in range(0, len(message), 16):
        total = (total + int.from_bytes(message[i : i + 16] + b"\1", "little")) * r % (2**130 - 5)
    return ((total + int.from_bytes(key[16:], "little")) % 2**128).to_bytes(16, "little")


def seal(key: bytes, associated: bytes, content: bytes, nonce: bytes = bytes(12)) -> bytes:
    stream = chacha20_stream(key, len(content), 1, nonce)
    sealed = bytes(a ^ b for a, b in zip(content, stream))
    padded = b"".join(part + bytes(-len(part) % 16) for part in (associated, sealed))
    lengths = struct.pack("<QQ", len(associated), len(sealed))
    return sealed + poly1305(chacha20_block(key, 0, nonce)[:32], padded + lengths)


def double(byte: int) -> int:
    return (byte << 1) ^ (0x11B if byte & 0x80 else 0)


def product(a: int, b: int) -> int:
    result = 0
    while b:
        if b & 1:
            result ^= a
        a, b = double(a), b >> 1
    return result


def substitution_box():
    inverse = [0] * 256
    for a in range(1, 256):
        inverse[a] = next(b for b in range(1, 256) if product(a, b) == 1)
    turn = lambda byte, by: (byte << by | byte >> (8 - by)) & 0xFF
    return [b ^ turn(b, 1) ^ turn(b, 2) ^ turn(b, 3) ^ turn(b, 4) ^ 0x63 for b in inverse]


SBOX = substitution_box()


def aes256_round_keys(key: bytes):
    words = [list(key[i : i + 4]) for i in range(0, 32, 4)]
    constant = 1
    for i in range(8, 60):
        word = words[i - 1][:]
        if i % 8 == 0:
            word = [SBOX[b] for b in word[1:] + word[:1]]
            word[0] ^= constant
            constant = double(constant)
        elif i % 8 == 4:
            word = [SBOX[b] for b in word]
        words.append([a ^ b for a, b in zip(words[i - 8], word)])
    return [sum(words[i : i + 4], []) for i in range(0, 60, 4)]


def aes256_block(round_keys, block: bytes) -> bytes:
    state = [a ^ b for a, b in zip(block, round_keys[0])]
    for number, key in enumerate(round_keys[1:], 1):
        state = [SBOX[b] for b in state]
        state = [state[(i + 4 * (i % 4)) % 16] for i in range(16)]
        if number < 14:
            mixed = []
            for column in range(0, 16, 4):
                c = state[column : column + 4]
                for i in range(4):
                    rest = c[(i + 2) % 4] ^ c[(i + 3) % 4]
                    mixed.append(double(c[i]) ^ double(c[(i + 1) % 4]) ^ c[(i + 1) % 4] ^ rest)
            state = mixed
        state = [a ^ b for a, b in zip(state, key)]
    return bytes(state)


def aes256_stream(key: bytes, length: int, first: int = 0) -> bytes:
    """Block j encrypts its number as eight little-endian bytes, then eight zeros."""
    keys = aes256_round_keys(key)
    blocks = range(first, first + (length + 15) // 16)
    return b"".join(aes256_block(keys, struct.pack("<QQ", j, 0)) for j in blocks)[:length]


def check():
    """The examples of the standards."""
    h = bytes.fromhex
    assert hkdf(bytes(range(13)), b"\x0b" * 22, bytes(range(0xF0, 0xFA)), 42).hex() == (
        "3cb25f25faacd57a90434f64d0362f2a2d2d0a90cf1a5a4c5db02d56ecc4c5bf34007208d5b887185865"
    )
    assert hkdf(b"", b"\x0b" * 22, b"", 42).hex() == (
        "8da4e775a563c18f715f802a063c5a31b8a11f5c5ee1879ec3454e5f3c738d2d9d201395faa4b61a96c8"
    )
    content = (
        b"Ladies and Gentlemen of the class of '99: If I could offer you only one tip for the future, "
        b"sunscreen would be it."
    )
    sealed = seal(bytes(range(0x80, 0xA0)), h("50515253c0c1c2c3c4c5c6c7"), content, h("070000004041424344454647"))
    assert sealed.hex().startswith("d31a8d34648e60db7b86afbc53ef7ec2")
    assert sealed.hex().endswith("61161ae10b594f09e26a7e902ecbd0600691")
    assert chacha20_stream(bytes(32), 64).hex().startswith("76b8e0ada0f13d90405d6ae55386bd28")
    block = aes256_block(aes256_round_keys(bytes(range(32))), h("00112233445566778899aabbccddeeff"))
    assert block.hex() == "8ea2b7ca516745bfeafc49904b496089"
