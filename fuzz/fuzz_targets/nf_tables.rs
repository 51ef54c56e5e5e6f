//! Messages of nf_tables: the first two bytes are the type, the rest is what
//! follows the netlink header.

#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    if let [low, high, payload @ ..] = bytes {
        kube_ipvs_nft::decode(u16::from_ne_bytes([*low, *high]), payload);
    }
});
