"""Sessions, messages, replies and a whole round of suite pairwise/1, written from its specification."""

import hashlib
import struct

import cipher
import curve
import scheme
from scheme import f64, prefixed, transcript, u8, u32, u64

SUITE = b"pairwise/1"
FIELDS = [
    ("task", "text"),
    ("id", "fixed"),
    ("round", "u64"),
    ("attempt", "u32"),
    ("model", "fixed"),
    ("plan", "fixed"),
    ("dimension", "u64"),
    ("bits", "u32"),
    ("kappa", "f64"),
    ("clip_l2", "f64"),
    ("max_weight", "u64"),
    ("smallest_cohort", "u32"),
    ("group_size", "u32"),
    ("threshold", "u32"),
    ("colluders", "f64"),
    ("dropout", "f64"),
    ("mechanism", "text"),
    ("noise", "f64"),
    ("delta", "f64"),
    ("honest", "u32"),
    ("rule", "text"),
    ("accepted_weakness", "text"),
    ("advertise_ms", "u64"),
    ("step_ms", "u64"),
    ("server", "fixed"),
    ("authority", "fixed"),
    ("cohort", "fixed"),
    ("commitment", "fixed"),
]
ENCODERS = {"text": lambda text: prefixed(text.encode()), "fixed": bytes, "u32": u32, "u64": u64, "f64": f64}


def session_fields(session) -> bytes:
    return prefixed(SUITE) + b"".join(ENCODERS[kind](session[name]) for name, kind in FIELDS)


def session_digest(session) -> bytes:
    return scheme.digest("testudo/round/v1", session_fields(session))


def sign(secret: bytes, label: str, *fields: bytes) -> bytes:
    return curve.ed25519_sign(secret, scheme.digest(label, *fields))


def announcement(session, secret: bytes) -> bytes:
    signature = sign(secret, "testudo/announced/v1", session_digest(session))
    return transcript("testudo/announcement/v1", session_fields(session), signature)


def members(count: int, indices) -> bytes:
    bits = bytearray((count + 7) // 8)
    for index in indices:
        bits[index // 8] |= 1 << index % 8
    return u32(count) + bytes(bits)


def keyed(items) -> bytes:
    return u32(len(items)) + b"".join(u32(index) + data for index, data in sorted(items.items()))


def message(step: int, body: bytes) -> bytes:
    return transcript("testudo/message/v1", u8(step), body)


def reply(kind: int, body: bytes) -> bytes:
    return transcript("testudo/reply/v1", u8(kind), body)


class Client:
    """One client; its randomness is a stream read in the order of the suite: box key, mask key, nonce, then the seed of
    the self-mask, then the coefficients of the seed's and of the masking key's sharing."""

    def __init__(self, name: str, secret: bytes, stream: bytes, aes: bool, authority: bytes):
        self.name, self.secret, self.stream, self.aes = name, secret, stream, aes
        self.identity = curve.ed25519_public(secret)
        self.certificate = curve.ed25519_sign(authority, scheme.certificate_message(name, self.identity))
        self.box_secret, self.mask_secret, self.nonce = (self.random(32) for _ in range(3))
        self.box_key, self.mask_key = map(curve.x25519_public, (self.box_secret, self.mask_secret))

    def random(self, length: int) -> bytes:
        taken, self.stream = self.stream[:length], self.stream[length:]
        assert len(taken) == length
        return taken

    def unsigned(self) -> bytes:
        keys = self.identity + self.certificate + self.box_key + self.mask_key + self.nonce
        return prefixed(self.name.encode()) + keys + u8(int(self.aes))

    def advertise(self, session: bytes) -> bytes:
        self.entry = self.unsigned() + sign(self.secret, "testudo/advertise/v1", session, self.unsigned())
        return message(0, self.entry)

    def leaf(self) -> bytes:
        return transcript("testudo/entry/v1", self.entry)

    def join(self, tau: bytes, index: int, group, threshold: int):
        self.tau, self.index, self.group, self.threshold = tau, index, group, threshold

    def others(self):
        return [other for other in self.group if other.index != self.index]

    def share(self) -> bytes:
        """Complete graph: everybody holds a share, its owner too."""
        self.seed = self.random(32)
        places = range(len(self.group))
        length = 40 * (self.threshold - 1)
        selves = scheme.share(self.seed, self.threshold, places, self.random(length))
        keys = scheme.share(self.mask_secret, self.threshold, places, self.random(length))
        self.held = {self.index: (selves[self.index], keys[self.index])}
        self.boxes = {}
        for other in self.others():
            ends = (self.index, self.box_key), (other.index, other.box_key)
            key = scheme.agreed_key(self.box_secret, other.box_key, self.tau, "box", *ends)
            content = selves[other.index] + keys[other.index]
            self.boxes[other.index] = scheme.seal(key, self.tau, self.index, other.index, content)
            other.inbox = getattr(other, "inbox", {}) | {self.index: (selves[other.index], keys[other.index])}
        self.commitment = scheme.seed_commitment(self.seed, self.tau, self.index)
        body = self.commitment + keyed(self.boxes)
        signature = sign(self.secret, "testudo/shares/v1", self.tau, u32(self.index), body)
        return message(1, body + signature)

    def mask(self, levels, shared):
        """Masks with those that shared."""
        total = list(levels)
        self.apply(total, self.self_stream(len(total)), 1)
        for other in self.others():
            if other.index in shared:
                self.apply(total, pair_stream(self, other, len(total)), 1 if other.index > self.index else -1)
        return total

    def self_stream(self, words: int):
        label = "self/aes256ctr" if self.aes else "self/chacha20"
        return stream(self.aes, scheme.self_key(self.seed, self.tau, label, self.index), words)

    @staticmethod
    def apply(total, words, sign: int):
        for at, word in enumerate(words):
            total[at] = (total[at] + sign * word) % 2**32

    def masked_input(self, upload: bytes, shared: bytes) -> bytes:
        digest = hashlib.sha256(upload).digest()
        return message(2, digest + sign(self.secret, "testudo/input/v1", self.tau, u32(self.index), shared, digest))

    def consistency(self, shared: bytes, survivors: bytes) -> bytes:
        self.convinced = sign(self.secret, "testudo/consistency/v1", self.tau, u32(self.index), shared, survivors)
        return message(3, self.convinced)

    def unmask(self, shared, survivors, survivors_set: bytes) -> bytes:
        held = self.held | self.inbox
        shares = {index: held[index][0 if index in survivors else 1] for index in shared}
        body = keyed(shares)
        signature = sign(self.secret, "testudo/unmask/v1", self.tau, u32(self.index), survivors_set, body)
        return message(4, body + signature)


def stream(aes: bool, key: bytes, words: int):
    data = (cipher.aes256_stream if aes else cipher.chacha20_stream)(key, 4 * words)
    return list(struct.unpack(f"<{words}I", data))


def pair_stream(one: Client, other: Client, words: int):
    aes = one.aes and other.aes
    low, high = sorted((one, other), key=lambda client: client.index)
    ends = (low.index, low.mask_key), (high.index, high.mask_key)
    label = "mask/aes256ctr" if aes else "mask/chacha20"
    return stream(aes, scheme.agreed_key(low.mask_secret, high.mask_key, low.tau, label, *ends), words)


def quantise(update, kappa: float, bits: int, random: bytes):
    """No clipping: the update is within its norm. u is the middle of one of 2^24 parts of 0..1, from the last three of
    four bytes."""
    top = 2**bits - 1
    density = top / (2 * kappa)
    levels = []
    for at, value in enumerate(update):
        x = min(max(value, -kappa), kappa)
        part = int.from_bytes(random[4 * at : 4 * at + 4], "little") >> 8
        levels.append(min(int((x + kappa) * density + (part + 0.5) / 2**24), top))
    return levels


def transcript_of_five(some):
    """Five clients, one group, both ciphers; one vanishes after it has shared."""
    authority, server, randomness = some("round authority"), some("round server"), some("round randomness")
    dimension, bits, kappa = 21, 16, 0.5
    session = {
        "task": "keyboard",
        "id": some("round id"),
        "round": 7,
        "attempt": 1,
        "model": some("round model"),
        "plan": some("round plan"),
        "dimension": dimension,
        "bits": bits,
        "kappa": kappa,
        "clip_l2": 16.0,
        "max_weight": 0,
        "smallest_cohort": 5,
        "group_size": 5,
        "threshold": 4,
        "colluders": 0.05,
        "dropout": 0.1,
        "mechanism": "",
        "noise": 0.0,
        "delta": 0.0,
        "honest": 0,
        "rule": "mean",
        "accepted_weakness": "a vector: five clients",
        "advertise_ms": 60_000,
        "step_ms": 5_000,
        "server": curve.ed25519_public(server),
        "authority": curve.ed25519_public(authority),
        "cohort": some("round cohort"),
        "commitment": hashlib.sha256(randomness).digest(),
    }
    tau0 = session_digest(session)
    announced = announcement(session, server)
    clients = [
        Client(f"client-{i}", some(f"round identity {i}"), some(f"round stream {i}", 4096), i != 2, authority)
        for i in range(5)
    ]
    said = {client.name: {"advertise": client.advertise(tau0)} for client in clients}
    heard = {client.name: {} for client in clients}
    root, paths = scheme.merkle([client.leaf() for client in clients])
    seed = scheme.assignment_seed(tau0, randomness, root, 5)
    [order] = scheme.assign(seed, 5, 5)
    group = [clients[position] for position in order]
    group_root, _ = scheme.merkle([client.leaf() for client in group])
    threshold = scheme.complete_threshold(5, 5, 4)
    tau = scheme.digest(
        "testudo/group/v1",
        tau0 + root + u32(5) + randomness + u32(0) + u32(5) + u32(threshold) + u32(4) + group_root,
    )
    entries = b""
    for index, client in enumerate(group):
        path = paths[order[index]]
        entries += u32(index) + u32(order[index]) + client.entry + u32(len(path)) + b"".join(path) + u32(0)
    roster = reply(0, randomness + u32(5) + root + u32(0) + group_root + u32(5) + entries)
    for index, client in enumerate(group):
        client.join(tau, index, group, threshold)
        heard[client.name]["roster"] = roster
    for client in group:
        said[client.name]["shares"] = client.share()
    shared = range(5)
    shared_set = members(5, shared)
    shared_signature = sign(server, "testudo/shared/v1", tau, shared_set)
    vanished = group[1]
    survivors = [client.index for client in group if client is not vanished]
    survivors_set = members(5, survivors)
    inputs = {}
    total = [0] * dimension
    expected = [0] * dimension
    for client in group:
        boxes = {other.index: other.boxes[client.index] for other in client.others()}
        heard[client.name]["shared"] = reply(1, shared_set + shared_signature + keyed(boxes))
        if client is vanished:
            continue
        # Multiples of 2^-10 are exact in every format.
        draws = some(f"round update {client.name}", 2 * dimension)
        update = [(int.from_bytes(draws[2 * at : 2 * at + 2], "little") % 1200 - 600) / 1024 for at in range(dimension)]
        rounding = some(f"round rounding {client.name}", 4 * dimension)
        levels = quantise(update, kappa, bits, rounding)
        masked = client.mask(levels, shared)
        upload = struct.pack(f"<{dimension}I", *masked)
        said[client.name]["input"] = client.masked_input(upload, shared_set)
        inputs[client.name] = {"update": update, "rounding": rounding.hex(), "levels": levels, "masked": masked}
        Client.apply(total, masked, 1)
        Client.apply(expected, levels, 1)
    survivors_signature = sign(server, "testudo/survivors/v1", tau, shared_set, survivors_set)
    living = [client for client in group if client is not vanished]
    for client in living:
        heard[client.name]["survivors"] = reply(2, survivors_set + survivors_signature)
        said[client.name]["consistency"] = client.consistency(shared_set, survivors_set)
    for client in living:
        others = {other.index: other.convinced for other in living if other is not client}
        heard[client.name]["confirmed"] = reply(3, keyed(others))
        said[client.name]["unmask"] = client.unmask(shared, survivors, survivors_set)
        heard[client.name]["done"] = reply(4, b"")
    # The server: own masks of survivors, pairwise masks of the one that vanished.
    for client in living:
        Client.apply(total, client.self_stream(dimension), -1)
        Client.apply(total, pair_stream(client, vanished, dimension), -1 if vanished.index > client.index else 1)
    assert total == expected
    text = lambda value: value.hex() if isinstance(value, bytes) else value
    return {
        "session": {name: text(value) for name, value in session.items()},
        "server_secret": server.hex(),
        "authority_secret": authority.hex(),
        "randomness": randomness.hex(),
        "tau0": tau0.hex(),
        "announcement": announced.hex(),
        "clients": [
            {
                "name": client.name,
                "index": client.index,
                "aes": client.aes,
                "secret": client.secret.hex(),
                "certificate": client.certificate.hex(),
                "random": some(f"round stream {at}", 4096).hex(),
                "said": {step: data.hex() for step, data in said[client.name].items()},
                "heard": {step: data.hex() for step, data in heard[client.name].items()},
                "input": inputs.get(client.name),
            }
            for at, client in enumerate(clients)
        ],
        "tau": tau.hex(),
        "threshold": threshold,
        "members": [client.name for client in group],
        "survivors": [client.name for client in living],
        "sum": total,
    }


def layout_of_session(session):
    """Where each field lies in an announcement, for vectors that flip it."""
    at = len(transcript("testudo/announcement/v1"))
    spans = [("suite", at + 4, at + 4 + len(SUITE))]
    at += 4 + len(SUITE)
    for name, kind in FIELDS:
        length = len(ENCODERS[kind](session[name]))
        first = at + 4 if kind == "text" else at
        if first < at + length:
            spans.append((name, first, at + length))
        at += length
    return spans + [("signature", at, at + 64)]


def raw(session):
    """A session whose byte strings are hexadecimal, with bytes again."""
    kinds = dict(FIELDS)
    return {name: bytes.fromhex(value) if kinds[name] == "fixed" else value for name, value in session.items()}


def refused(played):
    """Every field flipped in every kind of encoding: none of these may be read or trusted."""
    flipped = lambda data, at: data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :]
    session = raw(played["session"])
    announced = bytes.fromhex(played["announcement"])
    cases = [
        {"field": name, "announcement": flipped(announced, last - 1).hex()}
        for name, _, last in layout_of_session(session)
    ]
    cases += [{"field": "label", "announcement": flipped(announced, 9).hex()}]
    cases += [{"field": "end", "announcement": data.hex()} for data in (announced[:-1], announced + b"\0")]
    # Each value another: the digest, and with it everything, is another.
    digests = []
    for name, kind in FIELDS:
        value = session[name]
        other = {
            "text": lambda: value + "x",
            "fixed": lambda: flipped(value, len(value) // 2),
            "u32": lambda: value + 1,
            "u64": lambda: value + 1,
            "f64": lambda: struct.unpack("<d", struct.pack("<Q", struct.unpack("<Q", f64(value))[0] + 1))[0],
        }[kind]()
        changed = session | {name: other}
        written = other.hex() if isinstance(other, bytes) else other
        digests.append({"field": name, "value": written, "tau0": session_digest(changed).hex()})
    return {"announcements": cases, "digests": digests}
