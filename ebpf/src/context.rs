// SPDX-License-Identifier: Apache-2.0
//! Packet pointers in the contexts of programs.

/// Loads a packet pointer from the context. The field is declared as 32 bits but the verifier makes a
/// 64-bit pointer of it; compiled code would cut it to 32 bits again, which the verifier refuses.
macro_rules! load_pointer {
    ($context:ty, $place:expr, $field:ident) => {{
        let pointer: usize;
        // SAFETY: the context is the one the kernel handed to the program, and has the field.
        unsafe {
            core::arch::asm!(
                "{pointer} = *(u32 *)({context} + {offset})",
                pointer = out(reg) pointer,
                context = in(reg) $place,
                offset = const core::mem::offset_of!($context, $field),
                options(readonly, nostack, preserves_flags),
            );
        }
        pointer
    }};
}

pub(crate) use load_pointer;
