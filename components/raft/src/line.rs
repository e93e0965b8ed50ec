//! A queue that mostly holds few.

use std::collections::VecDeque;
#[cfg(any(test, feature = "testing"))]
use std::hash::{Hash, Hasher};

/// A queue whose first `NEAR` elements stand in place: while there are no more, as at most times, nothing is allocated and
/// little is moved.
#[derive(Debug)]
#[cfg_attr(any(test, feature = "testing"), derive(Clone))]
pub(crate) struct Line<T, const NEAR: usize> {
    /// Filled from the front on.
    near: [Option<T>; NEAR],
    /// Invariant: empty unless all that is near is filled.
    #[expect(clippy::box_collection, reason = "a word where there is none, as at most times")]
    far: Option<Box<VecDeque<T>>>,
}

impl<T, const NEAR: usize> Default for Line<T, NEAR> {
    fn default() -> Self {
        Self::new()
    }
}

impl<T, const NEAR: usize> Line<T, NEAR> {
    pub(crate) const fn new() -> Self {
        Self { near: [const { None }; NEAR], far: None }
    }

    #[inline]
    pub(crate) fn is_empty(&self) -> bool {
        self.near[0].is_none()
    }

    #[inline]
    fn far(&self) -> Option<&VecDeque<T>> {
        self.far.as_deref().filter(|far| !far.is_empty())
    }

    #[inline]
    pub(crate) fn len(&self) -> usize {
        self.near.iter().flatten().count() + self.far.as_ref().map_or(0, |far| far.len())
    }

    #[inline]
    pub(crate) fn front(&self) -> Option<&T> {
        self.near[0].as_ref()
    }

    #[inline]
    pub(crate) fn front_mut(&mut self) -> Option<&mut T> {
        self.near[0].as_mut()
    }

    #[inline]
    pub(crate) fn back(&self) -> Option<&T> {
        match self.far() {
            None => self.near.iter().rev().find_map(Option::as_ref),
            Some(far) => far.back(),
        }
    }

    #[inline]
    pub(crate) fn back_mut(&mut self) -> Option<&mut T> {
        match self.far.as_mut().filter(|far| !far.is_empty()) {
            None => self.near.iter_mut().rev().find_map(Option::as_mut),
            Some(far) => far.back_mut(),
        }
    }

    #[inline]
    pub(crate) fn push_back(&mut self, value: T) {
        match self.near.iter_mut().find(|place| place.is_none()) {
            Some(place) => *place = Some(value),
            None => self.far.get_or_insert_default().push_back(value),
        }
    }

    #[inline]
    pub(crate) fn pop_front(&mut self) -> Option<T> {
        let first = self.near[0].take();
        for place in 1..NEAR {
            self.near[place - 1] = self.near[place].take();
        }
        if let Some(far) = &mut self.far {
            self.near[NEAR - 1] = far.pop_front();
        }
        first
    }

    pub(crate) fn pop_back(&mut self) -> Option<T> {
        let far = self.far.as_mut().and_then(|far| far.pop_back());
        far.or_else(|| self.near.iter_mut().rev().find_map(Option::take))
    }

    pub(crate) fn get(&self, place: usize) -> Option<&T> {
        match self.near.get(place) {
            Some(near) => near.as_ref(),
            None => self.far.as_ref()?.get(place - NEAR),
        }
    }

    /// How many at the front are `before` what is looked for. They must be in order.
    pub(crate) fn partition_point(&self, before: impl Fn(&T) -> bool) -> usize {
        let near = self.near.iter().flatten().take_while(|value| before(value)).count();
        if near < NEAR { near } else { near + self.far().map_or(0, |far| far.partition_point(before)) }
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &T> {
        self.near.iter().flatten().chain(self.far.iter().flat_map(|far| far.iter()))
    }

    pub(crate) fn iter_mut(&mut self) -> impl Iterator<Item = &mut T> {
        self.near.iter_mut().flatten().chain(self.far.iter_mut().flat_map(|far| far.iter_mut()))
    }

    /// From `place` on, which may be right behind the last.
    pub(crate) fn range(&self, place: usize) -> impl Iterator<Item = &T> {
        let near = self.near[place.min(NEAR)..].iter().flatten();
        near.chain(self.far().into_iter().flat_map(move |far| far.range(place.saturating_sub(NEAR)..)))
    }

    /// Takes all from `place` on out.
    pub(crate) fn split_off(&mut self, place: usize) -> VecDeque<T> {
        let mut all: VecDeque<T> = std::mem::take(self).into_iter().collect();
        let off = all.split_off(place);
        all.into_iter().for_each(|value| self.push_back(value));
        off
    }

    /// Gives room for more than `room_max` elements back, if there are none.
    #[inline]
    pub(crate) fn forget_burst(&mut self, room_max: usize) {
        if let Some(far) = &self.far
            && far.is_empty()
            && far.capacity() > room_max
        {
            self.far = None;
        }
    }

    /// Gives back memory that is not in use.
    pub(crate) fn shrink_to_fit(&mut self) {
        match &mut self.far {
            Some(far) if !far.is_empty() => far.shrink_to_fit(),
            far => *far = None,
        }
    }

    /// For how many elements memory is kept.
    #[cfg(test)]
    pub(crate) fn room(&self) -> usize {
        self.far.as_ref().map_or(0, |far| far.capacity())
    }
}

impl<T, const NEAR: usize> IntoIterator for Line<T, NEAR> {
    type Item = T;
    type IntoIter = std::iter::Chain<
        std::iter::Flatten<std::array::IntoIter<Option<T>, NEAR>>,
        std::collections::vec_deque::IntoIter<T>,
    >;

    fn into_iter(self) -> Self::IntoIter {
        self.near.into_iter().flatten().chain(*self.far.unwrap_or_default())
    }
}

/// Where they stand is no part of what they are.
#[cfg(any(test, feature = "testing"))]
impl<T: Hash, const NEAR: usize> Hash for Line<T, NEAR> {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.len().hash(state);
        self.iter().for_each(|value| value.hash(state));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_a_queue() {
        is_a_queue(&mut Line::<u64, 1>::new());
        is_a_queue(&mut Line::<u64, 3>::new());
    }

    fn is_a_queue<const NEAR: usize>(line: &mut Line<u64, NEAR>) {
        let mut state = 9_u64;
        let mut draw = move |bound: u64| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 33) % bound
        };
        let mut queue = VecDeque::new();
        for value in 0..20_000_u64 {
            match draw(10) {
                0..4 => {
                    // Increasing also with what has been added to the ones before.
                    line.push_back(2 * value);
                    queue.push_back(2 * value);
                }
                4..7 => assert_eq!(line.pop_front(), queue.pop_front()),
                7 => assert_eq!(line.pop_back(), queue.pop_back()),
                8 => {
                    let place = draw(queue.len() as u64 + 1) as usize;
                    assert!(line.range(place).eq(queue.range(place..)));
                    assert_eq!(line.get(place), queue.get(place));
                    let bar = queue.get(place).copied().unwrap_or(u64::MAX);
                    assert_eq!(line.partition_point(|&other| other < bar), place);
                    if draw(4) == 0 {
                        assert!(line.split_off(place) == queue.split_off(place));
                    }
                }
                _ => {
                    line.iter_mut().zip(&mut queue).for_each(|(a, b)| (*a, *b) = (*a + 1, *b + 1));
                    if draw(2) == 0 { line.forget_burst(2) } else { line.shrink_to_fit() }
                }
            }
            assert!(line.iter().eq(&queue), "{line:?} is not {queue:?}");
            assert_eq!((line.len(), line.is_empty()), (queue.len(), queue.is_empty()));
            assert_eq!((line.front(), line.back()), (queue.front(), queue.back()));
            assert_eq!(line.back_mut(), queue.back_mut());
            assert_eq!(line.front_mut(), queue.front_mut());
        }
    }
}
