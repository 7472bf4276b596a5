//! The stream as a whole: what a receiver takes, and that nothing else is taken.

mod damage;
mod metadata;
mod packer;
mod receiver;
mod round_trip;
