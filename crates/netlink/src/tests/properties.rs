//! What holds for any input.

use proptest::collection::vec;
use proptest::prelude::*;

use super::*;
use crate::fake::{done, explained, split, status};
use crate::outgoing::Outgoing;

/// What a request is made of.
#[derive(Debug, Clone)]
enum Part {
    Bytes(u16, Vec<u8>),
    U8(u16, u8),
    Be16(u16, u16),
    U32(u16, u32),
    Name(u16, String),
    Nest(u16, Vec<Part>),
}

impl Part {
    fn write(&self, out: &mut Writer<'_>) {
        match self {
            Self::Bytes(kind, value) => out.bytes(*kind, value),
            Self::U8(kind, value) => out.u8(*kind, *value),
            Self::Be16(kind, value) => out.be16(*kind, *value),
            Self::U32(kind, value) => out.u32(*kind, *value),
            Self::Name(kind, name) => out.name(*kind, name),
            Self::Nest(kind, parts) => out.nest(*kind, |out| {
                parts.iter().for_each(|part| part.write(out));
            }),
        }
    }

    /// Read it back, knowing what it should be.
    fn assert_read(&self, attribute: attributes::Attribute<'_>) {
        let value = attribute.value();
        let kind = match self {
            Self::Bytes(kind, bytes) => {
                assert_eq!(value, bytes);
                kind
            }
            Self::U8(kind, number) => {
                assert_eq!(attributes::u8(value, "u8").expect("long enough"), *number);
                kind
            }
            Self::Be16(kind, number) => {
                assert_eq!(
                    attributes::be16(value, "u16").expect("long enough"),
                    *number
                );
                kind
            }
            Self::U32(kind, number) => {
                assert_eq!(attributes::u32(value, "u32").expect("long enough"), *number);
                kind
            }
            Self::Name(kind, name) => {
                assert_eq!(attributes::name(value), *name);
                kind
            }
            Self::Nest(kind, parts) => {
                assert_all_read(parts, value);
                kind
            }
        };
        assert_eq!(attribute.kind(), *kind);
    }
}

fn assert_all_read(parts: &[Part], bytes: &[u8]) {
    let mut left = parts.iter();
    let read = attributes::read(bytes, |attribute| {
        left.next()
            .expect("no more than written")
            .assert_read(attribute);
        Ok(())
    });
    read.expect("what was written");
    assert_eq!(left.count(), 0, "not all was read");
}

impl Request for Vec<Part> {
    fn message_type(&self) -> u16 {
        KIND
    }

    fn write(&self, out: &mut Writer<'_>) {
        self.iter().for_each(|part| part.write(out));
    }
}

fn part() -> impl Strategy<Value = Part> {
    let kind = || 1u16..0x3fff;
    let leaf = prop_oneof![
        (kind(), vec(any::<u8>(), 0..20)).prop_map(|(kind, bytes)| Part::Bytes(kind, bytes)),
        (kind(), any::<u8>()).prop_map(|(kind, value)| Part::U8(kind, value)),
        (kind(), any::<u16>()).prop_map(|(kind, value)| Part::Be16(kind, value)),
        (kind(), any::<u32>()).prop_map(|(kind, value)| Part::U32(kind, value)),
        (kind(), "[ -~]{0,20}").prop_map(|(kind, name)| Part::Name(kind, name)),
    ];
    leaf.prop_recursive(3, 20, 5, move |inner| {
        (1u16..0x3fff, vec(inner, 0..5)).prop_map(|(kind, parts)| Part::Nest(kind, parts))
    })
}

proptest! {
    #[test]
    fn what_is_written_is_read(requests in vec(vec(part(), 0..6), 1..6), first in any::<u32>()) {
        let mut out = Outgoing::new(first);
        for request in &requests {
            out.push(request, 0).expect("short");
        }
        let sent = split(out.bytes());
        prop_assert_eq!(sent.len(), requests.len());
        for (nth, (sent, request)) in sent.iter().zip(&requests).enumerate() {
            prop_assert_eq!(sent.sequence, first.wrapping_add(nth as u32));
            assert_all_read(request, &sent.payload);
        }
    }

    #[test]
    fn no_bytes_make_reading_panic(bytes in vec(any::<u8>(), 0..200)) {
        let _ = attributes::read(&bytes, |attribute| {
            let _ = attributes::u32(attribute.value(), "a number");
            let _ = attributes::counter(attribute.value(), "a counter");
            attribute.to_owned().map(drop)
        });
        let mut rest = &bytes[..];
        while !rest.is_empty() {
            let before = rest.len();
            if message::first(&mut rest).is_err() {
                break;
            }
            prop_assert!(rest.len() < before, "no progress");
        }
    }

    /// An answer, or an error, and always an end: whatever the kernel says.
    #[test]
    fn no_damaged_answer_makes_the_exchange_panic(
        at in any::<proptest::sample::Index>(),
        byte in any::<u8>(),
        cut in any::<proptest::sample::Index>(),
        which in 0usize..4,
    ) {
        let (mut connection, _) = connection(BUFFER, move |sent| {
            let sequence = sent[0].sequence;
            let mut datagram = match which {
                0 => entry(sequence, 0, 1),
                1 => status(sequence, -2),
                2 => done(sequence, 0, 0),
                _ => explained(&sent[0], -22, |out| {
                    out.name(1, "words");
                    out.u32(2, 20);
                }),
            };
            *at.get_mut(&mut datagram) = byte;
            let short = datagram[..cut.index(datagram.len())].to_vec();
            vec![Ok(datagram), Ok(short)]
        });
        let _ = connection.ask(Number(1), |content| content.after(4).map(drop));
        let _ = connection.list(Number(1), 2, read_number);
        let _ = connection.batch(numbers(3));
        let _ = connection.transaction(10, Some(1), numbers(3));
    }

    /// Whatever requests are refused, those and no others come back, in order.
    #[test]
    fn refusals_name_what_was_refused(refused in vec(any::<bool>(), 1..1200), small in any::<bool>()) {
        let verdicts = refused.clone();
        let buffer = if small { 20_000 } else { BUFFER };
        let (mut connection, _) = connection(buffer, move |sent| {
            sent.iter().filter_map(|sent| {
                let number = u32::from_ne_bytes(*sent.payload.last_chunk().expect("a number"));
                let code = if verdicts[number as usize] { -3 } else { 0 };
                (code != 0 || sent.acknowledge()).then(|| Ok(status(sent.sequence, code)))
            }).collect()
        });
        let failed = connection.batch(numbers(refused.len() as u32)).expect("heard");
        let places: Vec<_> = failed.iter().map(|(place, _)| *place).collect();
        let expected: Vec<_> = (0..refused.len()).filter(|place| refused[*place]).collect();
        prop_assert_eq!(places, expected);
    }
}
