//! Rules that can be broken on purpose, one at a time, to see whether whoever checks notices.

/// The rules of a crate that its feature `seeded_bugs` lets a test break: the enum `SeededBug` of them, and the set
/// `Bugs` of those that are broken, which a configuration carries to where each rule is kept.
///
/// Without the feature nothing can be planted, `Bugs` has no size, and what asks `bugs.has(SeededBug::…)` compiles to
/// nothing.
#[macro_export]
macro_rules! seeded_bugs {
    ($($(#[$doc:meta])* $name:ident,)*) => {
        /// A rule that is broken on purpose.
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
        pub enum SeededBug { $($(#[$doc])* $name,)* }

        impl SeededBug {
            /// All there are.
            pub const ALL: &[Self] = &[$(Self::$name,)*];
        }

        const _: () = assert!(SeededBug::ALL.len() <= 64, "a set of them is one word");

        /// Which rules are broken: none, unless a test has planted them.
        #[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
        pub struct Bugs {
            #[cfg(feature = "seeded_bugs")]
            planted: u64,
        }

        #[cfg(feature = "seeded_bugs")]
        impl Bugs {
            /// Breaks a rule.
            pub const fn plant(&mut self, bug: SeededBug) {
                self.planted |= 1 << bug as u32;
            }

            /// True if the rule is broken.
            #[must_use]
            pub const fn has(self, bug: SeededBug) -> bool {
                self.planted & (1 << bug as u32) != 0
            }
        }

        #[cfg(not(feature = "seeded_bugs"))]
        impl Bugs {
            /// Never.
            #[must_use]
            pub const fn has(self, _: SeededBug) -> bool {
                false
            }
        }
    };
}
