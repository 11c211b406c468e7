//! SHA-256 as hex digits.
//!
//! Owns nothing but the spelling: 64 lower-case digits, as `sha256sum` prints them.

use sha2::{Digest, Sha256};

/// Appends the digest of the parts, taken as one text, to `out`.
pub(crate) fn push_sha256(parts: &[&[u8]], out: &mut Vec<u8>) {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let mut hasher = Sha256::new();
    for part in parts {
        hasher.update(part);
    }
    for byte in hasher.finalize() {
        out.push(DIGITS[usize::from(byte >> 4)]);
        out.push(DIGITS[usize::from(byte & 15)]);
    }
}

/// The digest of `text`.
#[cfg(any(feature = "jules-server", feature = "model-server", test))]
pub(crate) fn sha256(text: &[u8]) -> String {
    let mut out = Vec::with_capacity(64);
    push_sha256(&[text], &mut out);
    String::from_utf8_lossy(&out).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_digest_is_the_published_one() {
        // The example "abc" of FIPS 180-4.
        assert_eq!(
            sha256(b"abc"),
            "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
        );
        let mut joined = Vec::new();
        push_sha256(&[b"a", b"bc"], &mut joined);
        assert_eq!(joined, sha256(b"abc").as_bytes());
    }
}
