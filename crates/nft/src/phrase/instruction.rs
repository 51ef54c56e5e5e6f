//! Single instructions, as phrases need them: values stand in the first register.

use crate::wire::{
    Among, Bitwise, Compare, Comparison, Expression, Item, Key, Layer, Lookup, Meta, Order,
    Payload, Register, SetSpec,
};

pub(super) fn meta(key: Meta) -> Expression {
    let into = Register::FIRST;
    Expression::MetaLoad { key, into }
}

pub(super) fn store_mark() -> Expression {
    Expression::MetaSet {
        key: Meta::MARK,
        from: Register::FIRST,
    }
}

pub(super) fn load(into: Register, data: &[u8]) -> Expression {
    let data = data.to_vec();
    Expression::Load { into, data }
}

pub(super) fn transport(offset: u32, length: u32, into: Register) -> Expression {
    Expression::Payload(Payload {
        layer: Layer::Transport as u32,
        offset,
        length,
        into,
    })
}

pub(super) fn is(how: Compare, data: &[u8]) -> Expression {
    Expression::Compare(Comparison {
        how,
        register: Register::FIRST,
        data: data.to_vec(),
    })
}

pub(super) fn not_zero() -> Expression {
    is(Compare::NotEqual, &[0; 4])
}

pub(super) fn masked(mask: u32) -> Expression {
    bitwise(mask, 0)
}

/// Of a number in the machine's order.
pub(super) fn bitwise(mask: u32, xor: u32) -> Expression {
    Expression::Bitwise(Bitwise {
        from: Register::FIRST,
        into: Register::FIRST,
        mask: mask.to_ne_bytes().into(),
        xor: xor.to_ne_bytes().into(),
    })
}

pub(super) fn lookup(set: &str, into: Option<Register>, inverted: bool) -> Expression {
    Expression::Lookup(Lookup {
        set: set.to_owned(),
        from: Register::FIRST,
        into,
        inverted,
    })
}

pub(super) fn item(key: &[u8]) -> Item {
    Item::new(Key::new(key).unwrap_or(Key::EMPTY))
}

/// Is what stands in the first register one of these, a byte each?
pub(super) fn among(kind: u32, order: Order, items: Vec<Item>) -> Expression {
    Expression::Among(Among {
        set: SetSpec {
            parts: vec![(kind, 1)],
            order,
            values: None,
            intervals: false,
            constant: Some(items),
        },
        from: Register::FIRST,
        inverted: false,
    })
}
