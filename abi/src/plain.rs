// SPDX-License-Identifier: Apache-2.0
//! [`Plain`], the marker of values that may cross the border, and [`abi_struct!`], its only author.

/// A value made of bytes only: no padding, no pointer, and every bit pattern is valid.
///
/// # Safety
///
/// The type is `repr(C)` or `repr(transparent)`, `Copy`, has no padding and accepts every bit
/// pattern. [`abi_struct!`] checks this; implement the trait by hand for primitives only.
#[cfg(not(feature = "user"))]
pub unsafe trait Plain: Copy + 'static {}

/// A value made of bytes only: no padding, no pointer, and every bit pattern is valid.
///
/// # Safety
///
/// The type is `repr(C)` or `repr(transparent)`, `Copy`, has no padding and accepts every bit
/// pattern. [`abi_struct!`] checks this; implement the trait by hand for primitives only.
#[cfg(feature = "user")]
pub unsafe trait Plain: aya::Pod {}

macro_rules! plain_primitives {
    ($($ty:ty),*) => {$(
        // SAFETY: an integer has no padding and every bit pattern is a value.
        unsafe impl Plain for $ty {}
    )*};
}
plain_primitives!(u8, u16, u32, u64);

// SAFETY: an array of plain values has no padding between its elements.
unsafe impl<T: Plain, const N: usize> Plain for [T; N] {}

/// Declares a map key or value: `repr(C)`, its size written down, checked for padding and niches.
///
/// A generic struct names one concrete size per instantiation. Every field type must be [`Plain`],
/// which excludes `bool`, `Option`, enums and references; field sizes must add up to the size.
#[macro_export]
macro_rules! abi_struct {
    (
        $(#[$meta:meta])*
        pub struct $name:ident = $size:literal {
            $($(#[$field_meta:meta])* pub $field:ident: $ty:ty,)*
        }
    ) => {
        $(#[$meta])*
        #[repr(C)]
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
        pub struct $name { $($(#[$field_meta])* pub $field: $ty,)* }

        const _: () = {
            assert!(size_of::<$name>() == $size, "size differs from the one written down");
            assert!(0 $(+ size_of::<$ty>())* == $size, "the struct has padding");
            const fn plain<T: $crate::plain::Plain>() {}
            $(plain::<$ty>();)*
        };
        // SAFETY: `repr(C)`, `Copy`; the constant above proves the absence of padding, and that
        // every field is `Plain`.
        #[cfg(feature = "user")]
        unsafe impl aya::Pod for $name {}
        // SAFETY: as above.
        unsafe impl $crate::plain::Plain for $name {}

        impl $crate::layout::Layout for $name {
            const NAME: &'static str = stringify!($name);
            const FIELDS: &'static [$crate::layout::Field] = &[
                $($crate::layout::Field {
                    name: stringify!($field),
                    offset: core::mem::offset_of!($name, $field),
                    size: size_of::<$ty>(),
                },)*
            ];
        }
    };
    (
        $(#[$meta:meta])*
        pub struct $name:ident<A> = ($v4:literal, $v6:literal) {
            $($(#[$field_meta:meta])* pub $field:ident: $ty:ty,)*
        }
    ) => {
        $(#[$meta])*
        #[repr(C)]
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
        pub struct $name<A> { $($(#[$field_meta])* pub $field: $ty,)* }

        $crate::abi_struct!(@family $name, $crate::addr::V4, $v4, $($field: $ty),*);
        $crate::abi_struct!(@family $name, $crate::addr::V6, $v6, $($field: $ty),*);
    };
    (@family $name:ident, $addr:ty, $size:literal, $($field:ident: $ty:ty),*) => {
        const _: () = {
            type A = $addr;
            assert!(size_of::<$name<A>>() == $size, "size differs from the one written down");
            assert!(0 $(+ size_of::<$ty>())* == $size, "the struct has padding");
            const fn plain<T: $crate::plain::Plain>() {}
            $(plain::<$ty>();)*
        };
        // SAFETY: `repr(C)`, `Copy`; the caller's constant proves the absence of padding, and that
        // every field is `Plain`.
        #[cfg(feature = "user")]
        unsafe impl aya::Pod for $name<$addr> {}
        // SAFETY: as above.
        unsafe impl $crate::plain::Plain for $name<$addr> {}

        impl $crate::layout::Layout for $name<$addr> {
            const NAME: &'static str = concat!(stringify!($name), "<", stringify!($addr), ">");
            const FIELDS: &'static [$crate::layout::Field] = {
                type A = $addr;
                &[$($crate::layout::Field {
                    name: stringify!($field),
                    offset: core::mem::offset_of!($name<A>, $field),
                    size: size_of::<$ty>(),
                },)*]
            };
        }
    };
}
