//! Encodings by listing fields.

/// Implements [`Encode`](crate::Encode) and [`Decode`](crate::Decode) for a struct by naming its fields in wire order.
///
/// The struct is written length-delimited. New fields go last; a decoder takes [`Decode::missing`](crate::Decode::missing)
/// for fields that an older writer did not write, and skips those of a newer one.
#[macro_export]
macro_rules! codec_struct {
    ($ty:path { $($field:ident),* $(,)? }) => {
        impl $crate::Encode for $ty {
            fn encode(&self, out: &mut $crate::__BytesMut) {
                $crate::put_delimited(out, |_out| {
                    $( $crate::Encode::encode(&self.$field, _out); )*
                });
            }
        }
        impl $crate::Decode for $ty {
            fn decode(reader: &mut $crate::Reader<'_>) -> Result<Self, $crate::DecodeError> {
                reader.delimited(|_r| {
                    Ok(Self {
                        $( $field: if _r.is_at_end() { $crate::Decode::missing()? } else { $crate::Decode::decode(_r)? }, )*
                    })
                })
            }
        }
    };
}

/// Implements [`Encode`](crate::Encode) and [`Decode`](crate::Decode) for an enum: a tag, then the variant's fields
/// length-delimited under the same rules as [`codec_struct!`](crate::codec_struct).
///
/// Variants are written `tag = Name`, `tag = Name(field)` or `tag = Name { a, b }`. Tags are never used again.
#[macro_export]
macro_rules! codec_enum {
    ($ty:ident { $( $tag:literal = $variant:ident $( ( $($tuple:ident),+ ) )? $( { $($field:ident),+ $(,)? } )? ),* $(,)? }) => {
        impl $crate::Encode for $ty {
            fn encode(&self, out: &mut $crate::__BytesMut) {
                match self {
                    $( Self::$variant $( ( $($tuple),+ ) )? $( { $($field),+ } )? => {
                        $crate::put_varint(out, $tag);
                        $crate::put_delimited(out, |_out| {
                            $( $( $crate::Encode::encode($tuple, _out); )+ )?
                            $( $( $crate::Encode::encode($field, _out); )+ )?
                        });
                    } )*
                }
            }
        }
        impl $crate::Decode for $ty {
            fn decode(reader: &mut $crate::Reader<'_>) -> Result<Self, $crate::DecodeError> {
                let tag = reader.varint()?;
                reader.delimited(|_r| match tag {
                    $( $tag => {
                        $( $( let $tuple = if _r.is_at_end() { $crate::Decode::missing()? } else { $crate::Decode::decode(_r)? }; )+ )?
                        $( $( let $field = if _r.is_at_end() { $crate::Decode::missing()? } else { $crate::Decode::decode(_r)? }; )+ )?
                        Ok(Self::$variant $( ( $($tuple),+ ) )? $( { $($field),+ } )?)
                    } )*
                    tag => Err($crate::DecodeError::UnknownVariant { of: stringify!($ty), tag }),
                })
            }
        }
    };
}

#[cfg(test)]
mod tests {
    use crate::{Decode, DecodeError, Encode};
    use bytes::Bytes;

    #[derive(PartialEq, Debug)]
    struct Old {
        id: u64,
    }
    codec_struct!(Old { id });

    #[derive(PartialEq, Debug, Default)]
    struct New {
        id: u64,
        name: String,
    }
    codec_struct!(New { id, name });

    #[derive(PartialEq, Debug)]
    enum Shape {
        Empty,
        Wrapped(New),
        Pair { a: u64, b: Bytes },
    }
    codec_enum!(Shape { 1 = Empty, 2 = Wrapped(inner), 7 = Pair { a, b } });

    #[test]
    fn older_and_newer_versions_read_each_other() {
        let new = New { id: 7, name: "seven".into() };
        assert_eq!(Old::from_bytes(&new.to_bytes()), Ok(Old { id: 7 }));
        assert_eq!(New::from_bytes(&Old { id: 8 }.to_bytes()), Ok(New { id: 8, name: String::new() }));
    }

    #[test]
    fn enums_round_trip_and_unknown_tags_are_told() {
        let long = Bytes::from(vec![9; 300]);
        for shape in [Shape::Empty, Shape::Wrapped(New::default()), Shape::Pair { a: 1, b: long }] {
            assert_eq!(Shape::from_bytes(&shape.to_bytes()), Ok(shape));
        }
        let unknown = Bytes::from_static(&[3, 0]);
        assert_eq!(Shape::from_bytes(&unknown), Err(DecodeError::UnknownVariant { of: "Shape", tag: 3 }));
    }

    #[test]
    fn a_body_of_any_length_keeps_its_delimiter() {
        for len in [0, 125, 126, 127, 128, 16_381, 16_384, 2_100_000] {
            let shape = Shape::Pair { a: 1, b: vec![1; len].into() };
            assert_eq!(Shape::from_bytes(&shape.to_bytes()), Ok(shape), "payload of {len}");
        }
    }
}
