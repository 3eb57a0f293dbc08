//! What each message signs, written from the specification, so that an adversary can sign anything.

use testudo_protocol::{
    Digest,
    secagg::{Advertise, Bitmap, Shares, SigningKey, Unmask, transcript::Writer},
};

fn set(writer: Writer, members: &Bitmap) -> Writer {
    let mut bits = vec![0u8; members.members().div_ceil(8)];
    members.iter().for_each(|index| bits[index / 8] |= 1 << (index % 8));
    writer.u32(members.members() as u32).fixed(&bits)
}

fn entry(writer: Writer, entry: &Advertise) -> Writer {
    writer
        .text(entry.certificate.client.as_str())
        .fixed(&entry.certificate.key.0)
        .fixed(&entry.certificate.signature.0)
        .fixed(&entry.box_key)
        .fixed(&entry.mask_key)
        .fixed(&entry.nonce)
        .u8(u8::from(entry.aes))
}

/// An entry as the Merkle trees hold it.
pub(crate) fn leaf(advertise: &Advertise) -> Vec<u8> {
    entry(Writer::new("testudo/entry/v1"), advertise).fixed(&advertise.signature.0).finish()
}

pub(crate) fn sign_entry(advertise: &mut Advertise, session: &Digest, key: &SigningKey) {
    let statement = entry(Writer::new("testudo/advertise/v1").fixed(session.as_bytes()), advertise);
    advertise.signature = key.sign(&statement);
}

fn boxes(mut writer: Writer, shares: &Shares) -> Writer {
    writer = writer.fixed(shares.commitment.as_bytes()).u32(shares.boxes.len() as u32);
    for (index, sealed) in &shares.boxes {
        writer = writer.u32(*index).fixed(sealed);
    }
    writer
}

pub(crate) fn sign_shares(shares: &mut Shares, tau: &Digest, index: u32, key: &SigningKey) {
    let statement = boxes(Writer::new("testudo/shares/v1").fixed(tau.as_bytes()).u32(index), shares);
    shares.signature = key.sign(&statement);
}

pub(crate) fn shared(tau: &Digest, members: &Bitmap) -> Writer {
    set(Writer::new("testudo/shared/v1").fixed(tau.as_bytes()), members)
}

pub(crate) fn input(tau: &Digest, index: u32, shared: &Bitmap, upload: &Digest) -> Writer {
    set(Writer::new("testudo/input/v1").fixed(tau.as_bytes()).u32(index), shared).fixed(upload.as_bytes())
}

pub(crate) fn consistency(tau: &Digest, index: u32, shared: &Bitmap, survivors: &Bitmap) -> Writer {
    set(set(Writer::new("testudo/consistency/v1").fixed(tau.as_bytes()).u32(index), shared), survivors)
}

pub(crate) fn unmask(tau: &Digest, index: u32, survivors: &Bitmap, unmask: &Unmask) -> Writer {
    let mut writer = set(Writer::new("testudo/unmask/v1").fixed(tau.as_bytes()).u32(index), survivors);
    writer = writer.u32(unmask.shares.len() as u32);
    for (index, share) in &unmask.shares {
        writer = writer.u32(*index).fixed(&share.to_bytes()[..]);
    }
    writer
}
