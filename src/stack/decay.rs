//! placeholder
use super::depot::Class;
use super::handle::Packed;
use super::span::Span;

pub struct Decay {}
impl Decay {
    pub const fn new() -> Self {
        Self {}
    }
    pub fn reset(&self) {}
    pub fn pass(&self, _: &Class, _: bool) {}
    pub fn sample(&self, _: &Span, _: usize, _: Packed) {}
}
