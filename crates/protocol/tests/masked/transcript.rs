//! A whole round against the independent reference in `vectors/`: every byte that is said, heard and uploaded.

use crate::harness::{Memory, bytes_of};
use serde_json::Value;
use std::sync::LazyLock;
use testudo_aggregate::{Quantizer, apply_masks};
use testudo_protocol::{
    ClientId, Digest, Effect, Input, PairwiseParams, Phase, Round, RoundParams, TaskName,
    secagg::{
        Advertised, Announcement, Certificate, Confirming, Credentials, Demands, Message, Reply, Sent, Session,
        Sharing, Signature, SigningKey, Step, VerifyingKey,
    },
};

static VECTORS: LazyLock<Value> =
    LazyLock::new(|| serde_json::from_str(include_str!("../../vectors/round.json")).unwrap());

const DEMANDS: Demands = Demands { group: 5, colluders: 0.05 };

fn text(value: &Value) -> &str {
    value.as_str().unwrap()
}

fn bytes(value: &Value) -> Vec<u8> {
    hex::decode(text(value)).unwrap()
}

fn array<const LENGTH: usize>(value: &Value) -> [u8; LENGTH] {
    bytes(value).try_into().unwrap()
}

fn list(value: &Value) -> &[Value] {
    let list = value.as_array().unwrap();
    assert!(!list.is_empty());
    list
}

fn words(value: &Value) -> Vec<u32> {
    list(value).iter().map(|word| word.as_u64().unwrap().try_into().unwrap()).collect()
}

fn session(of: &Value) -> Session {
    let narrow = |field: &str| u32::try_from(of[field].as_u64().unwrap()).unwrap();
    let wide = |field: &str| of[field].as_u64().unwrap();
    let real = |field: &str| of[field].as_f64().unwrap();
    let string = |field: &str| text(&of[field]).to_string();
    Session {
        task: TaskName::new(text(&of["task"])).unwrap(),
        id: array(&of["id"]),
        round: wide("round"),
        attempt: narrow("attempt"),
        model: Digest(array(&of["model"])),
        plan: Digest(array(&of["plan"])),
        dimension: wide("dimension"),
        bits: narrow("bits"),
        kappa: real("kappa"),
        clip_l2: real("clip_l2"),
        max_weight: wide("max_weight"),
        smallest_cohort: narrow("smallest_cohort"),
        group_size: narrow("group_size"),
        threshold: narrow("threshold"),
        colluders: real("colluders"),
        dropout: real("dropout"),
        mechanism: string("mechanism"),
        noise: real("noise"),
        delta: real("delta"),
        honest: narrow("honest"),
        rule: string("rule"),
        accepted_weakness: string("accepted_weakness"),
        advertise_ms: wide("advertise_ms"),
        step_ms: wide("step_ms"),
        server: VerifyingKey(array(&of["server"])),
        authority: array(&of["authority"]),
        cohort: Digest(array(&of["cohort"])),
        commitment: Digest(array(&of["commitment"])),
    }
}

fn round() -> &'static Value {
    &VECTORS["round"]
}

fn server() -> SigningKey {
    SigningKey::from_bytes(&array(&round()["server_secret"]))
}

fn announcement() -> Announcement {
    session(&round()["session"]).announce(&server())
}

fn name(client: &Value) -> ClientId {
    ClientId::new(text(&client["name"])).unwrap()
}

fn credentials(client: &Value) -> Credentials {
    let key = SigningKey::from_bytes(&array(&client["secret"]));
    let signature = Signature(array(&client["certificate"]));
    Credentials { certificate: Certificate { client: name(client), key: key.verifying_key(), signature }, key }
}

/// The client's randomness, read from its start.
fn stream(client: &Value) -> impl FnMut(&mut [u8]) + use<> {
    let mut rest = bytes(&client["random"]);
    move |out| {
        out.copy_from_slice(&rest[..out.len()]);
        rest.drain(..out.len());
    }
}

fn machine() -> Round {
    let clients: Vec<ClientId> = list(&round()["clients"]).iter().map(name).collect();
    let randomness = array(&round()["randomness"]);
    let params = PairwiseParams { announcement: announcement(), key: server(), randomness, least_groups: 1 };
    Round::open_masked(RoundParams::new(clients, 5, 5, 1000).unwrap(), params)
}

/// Says the reference's message, after every message that differs from it in one bit of one byte was refused.
fn say(machine: &mut Round, client: &Value, message: &Message, step: &str) {
    let expected = bytes(&client["said"][step]);
    assert_eq!(hex::encode(message.to_bytes()), hex::encode(&expected), "{} says {step}", client["name"]);
    assert_eq!(Message::from_bytes(&expected).unwrap(), *message);
    let told = |message: Message| Input::Message { client: name(client), message: Box::new(message) };
    for at in 0..expected.len() {
        let mut bad = expected.clone();
        bad[at] ^= 1;
        if let Ok(bad) = Message::from_bytes(&bad) {
            assert!(machine.handle(1, told(bad)).is_err(), "{step}, byte {at}");
        }
    }
    machine.handle(1, told(message.clone())).unwrap();
}

fn hear(machine: &Round, client: &Value, step: Step, field: &str) -> Reply {
    let reply = machine.reply(&name(client), step).unwrap().unwrap();
    let expected = &client["heard"][field];
    assert_eq!(hex::encode(reply.to_bytes()), text(expected), "{} hears {field}", client["name"]);
    assert_eq!(Reply::from_bytes(&bytes(expected), 5).unwrap(), reply);
    reply
}

fn tick(machine: &mut Round) {
    let now = machine.deadline().unwrap();
    machine.handle(now, Input::Tick).unwrap();
}

#[test]
fn the_session_and_its_announcement_are_the_references() {
    let announced = bytes(&round()["announcement"]);
    assert_eq!(session(&round()["session"]).digest().to_string(), text(&round()["tau0"]));
    assert_eq!(announcement().to_bytes(), announced);
    assert_eq!(Announcement::from_bytes(&announced).unwrap(), announcement());
    for case in list(&VECTORS["refused"]["announcements"]) {
        assert!(Announcement::from_bytes(&bytes(&case["announcement"])).is_err(), "{}", case["field"]);
    }
    for case in list(&VECTORS["refused"]["digests"]) {
        let mut changed = round()["session"].clone();
        changed[text(&case["field"])] = case["value"].clone();
        assert_eq!(session(&changed).digest().to_string(), text(&case["tau0"]), "{}", case["field"]);
        assert_ne!(text(&case["tau0"]), text(&round()["tau0"]), "{}", case["field"]);
    }
}

#[test]
fn every_byte_of_a_round_is_the_references() {
    let clients = list(&round()["clients"]);
    let announcement = announcement();
    let mut machine = machine();
    let mut advertised = Vec::new();
    for client in clients {
        let mut random = stream(client);
        let aes = client["aes"].as_bool().unwrap();
        let joined = Advertised::new(&announcement, &credentials(client), &Memory::default(), aes, &mut random);
        let (state, message) = joined.unwrap();
        say(&mut machine, client, &message, "advertise");
        advertised.push((client, state, random));
    }
    let mut sharing = Vec::new();
    for (client, state, mut random) in advertised {
        let Reply::Roster(roster) = hear(&machine, client, Step::AdvertiseKeys, "roster") else { panic!() };
        let (terms, _) = crate::forger::terms(&announcement.session, &roster);
        assert_eq!(terms.tau.to_string(), text(&round()["tau"]));
        assert_eq!(terms.threshold as u64, round()["threshold"].as_u64().unwrap());
        let (state, message) = state.group(&roster, &DEMANDS, &mut random).unwrap();
        say(&mut machine, client, &message, "shares");
        sharing.push((client, state));
    }
    let mut sent = Vec::new();
    for (client, state) in sharing {
        let Reply::Shared(shared) = hear(&machine, client, Step::ShareKeys, "shared") else { panic!() };
        let state = state.shared(&shared).unwrap();
        let input = &client["input"];
        if input.is_null() {
            continue;
        }
        let mut levels = quantised(input);
        assert_eq!(levels, words(&input["levels"]), "{}", client["name"]);
        apply_masks(&mut levels, 0, &state.masks().unwrap()).unwrap();
        assert_eq!(levels, words(&input["masked"]), "{}", client["name"]);
        let digest = Digest::of(&bytes_of(&levels));
        machine.handle(1, Input::Offer { client: name(client), digest }).unwrap();
        machine.handle(1, Input::Recorded { client: name(client) }).unwrap();
        let (state, message) = state.input(digest);
        say(&mut machine, client, &message, "input");
        sent.push((client, state));
    }
    tick(&mut machine);
    let mut confirming = Vec::new();
    for (client, state) in sent {
        let Reply::Survivors(survivors) = hear(&machine, client, Step::MaskedInput, "survivors") else { panic!() };
        let (state, message) = state.survivors(&survivors).unwrap();
        say(&mut machine, client, &message, "consistency");
        confirming.push((client, state));
    }
    let mut answering = Vec::new();
    for (client, state) in confirming {
        let Reply::Confirmed(confirmed) = hear(&machine, client, Step::Consistency, "confirmed") else { panic!() };
        answering.push((client, state.confirmed(&confirmed).unwrap().give(&Memory::default()).unwrap()));
    }
    for (client, message) in &answering {
        say(&mut machine, client, message, "unmask");
    }
    for (client, _) in &answering {
        assert_eq!(hear(&machine, client, Step::Unmask, "done"), Reply::Done);
    }
    assert_eq!(machine.phase(), Phase::Closed);
    let [opening] = &machine.openings()[..] else { panic!() };
    let opened = opening.open().unwrap();
    assert_eq!(
        opened.survivors,
        list(&round()["survivors"]).iter().map(|name| ClientId::new(text(name)).unwrap()).collect::<Vec<_>>()
    );
    let mut sum = vec![0; opened_dimension()];
    for client in clients.iter().filter(|client| !client["input"].is_null()) {
        crate::harness::add(&mut sum, &words(&client["input"]["masked"]));
    }
    apply_masks(&mut sum, 0, &opened.masks).unwrap();
    assert_eq!(sum, words(&round()["sum"]));
    let closed = machine.handle(1, Input::Tick).unwrap();
    assert!(!closed.iter().any(|effect| matches!(effect, Effect::Abandon(_))));
}

fn opened_dimension() -> usize {
    session(&round()["session"]).dimension as usize
}

fn quantised(input: &Value) -> Vec<u32> {
    let session = session(&round()["session"]);
    let quantizer = Quantizer::new(session.clip_l2, Some(session.kappa), session.bits).unwrap();
    let update: Vec<f32> = list(&input["update"]).iter().map(|value| value.as_f64().unwrap() as f32).collect();
    let mut rest = bytes(&input["rounding"]);
    let mut levels = vec![0; update.len()];
    let random = |out: &mut [u8]| {
        out.copy_from_slice(&rest[..out.len()]);
        rest.drain(..out.len());
    };
    quantizer.quantize(&update, 1.0, random, &mut levels).unwrap();
    levels
}

/// The first client, up to the step in which it hears a reply.
struct Replayed(&'static Value);

impl Replayed {
    fn heard(&self, field: &str) -> Vec<u8> {
        bytes(&self.0["heard"][field])
    }

    fn sharing(&self, roster: &[u8]) -> Option<Sharing> {
        let Ok(Reply::Roster(roster)) = Reply::from_bytes(roster, 0) else { return None };
        let mut random = stream(self.0);
        let aes = self.0["aes"].as_bool().unwrap();
        let (state, _) =
            Advertised::new(&announcement(), &credentials(self.0), &Memory::default(), aes, &mut random).unwrap();
        state.group(&roster, &DEMANDS, &mut random).ok().map(|(state, _)| state)
    }

    fn sent(&self, shared: &[u8]) -> Option<Sent> {
        let Ok(Reply::Shared(shared)) = Reply::from_bytes(shared, 5) else { return None };
        let masking = self.sharing(&self.heard("roster")).unwrap().shared(&shared).ok()?;
        Some(masking.input(Digest::of(b"upload")).0)
    }

    fn confirming(&self, survivors: &[u8]) -> Option<Confirming> {
        let Ok(Reply::Survivors(survivors)) = Reply::from_bytes(survivors, 5) else { return None };
        let sent = self.sent(&self.heard("shared")).unwrap();
        sent.survivors(&survivors).ok().map(|(state, _)| state)
    }

    fn answers(&self, confirmed: &[u8]) -> bool {
        let Ok(Reply::Confirmed(confirmed)) = Reply::from_bytes(confirmed, 5) else { return false };
        self.confirming(&self.heard("survivors")).unwrap().confirmed(&confirmed).is_ok()
    }
}

/// Calls with every reply that differs from the reference's in one bit of one byte.
fn flipped(reply: &[u8], mut trusted: impl FnMut(&[u8]) -> bool) -> Vec<usize> {
    assert!(trusted(reply));
    let wrong = |at: &usize| {
        let mut bad = reply.to_vec();
        bad[*at] ^= 1;
        trusted(&bad)
    };
    (0..reply.len()).filter(wrong).collect()
}

#[test]
fn no_reply_that_differs_in_a_bit_is_trusted() {
    let client = list(&round()["clients"]).iter().find(|client| !client["input"].is_null()).unwrap();
    let first = Replayed(client);
    let none: [usize; 0] = [];
    assert_eq!(flipped(&first.heard("roster"), |reply| first.sharing(reply).is_some()), none);
    assert_eq!(flipped(&first.heard("survivors"), |reply| first.confirming(reply).is_some()), none);
    // Four of four survivors must have signed.
    assert_eq!(flipped(&first.heard("confirmed"), |reply| first.answers(reply)), none);
    // A box that does not open is missed: five hold a share, four are enough.
    let shared = first.heard("shared");
    let boxes = shared.len() - 4 * (4 + 96);
    let missed = flipped(&shared, |reply| first.sent(reply).is_some());
    assert!(missed.iter().all(|at| *at >= boxes), "{missed:?}");
    assert!(missed.len() >= 4 * 96);
}
