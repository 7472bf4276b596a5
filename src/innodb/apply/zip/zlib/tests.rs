//! Streams compared with those of zlib 1.2.13 (`deflateInit2(level, Z_DEFLATED, window_bits, 9, Z_DEFAULT_STRATEGY)`, a
//! full flush between the parts, the second part in pieces of 37 bytes): their length and CRC-32.

use super::*;

/// The same numbers wherever the streams are made.
struct Numbers(u64);

impl Numbers {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        self.0 >> 33
    }
}

fn input(kind: &str, len: usize, seed: u64) -> Vec<u8> {
    let mut numbers = Numbers(seed);
    let mut out = Vec::new();
    let mut i = 0u16;
    while out.len() < len {
        match kind {
            "noise" => out.push(numbers.next() as u8),
            "text" => {
                let n = numbers.next() % 40;
                out.extend(format!("word{} ", n * n).bytes());
            }
            "records" => {
                let [high, low] = i.to_be_bytes();
                out.extend([0x80, 0, 0, high, low]);
                out.extend(&b"abcdefghij"[..(numbers.next() % 11) as usize]);
                let byte = (numbers.next() % 4) as u8;
                out.extend(std::iter::repeat_n(byte, (numbers.next() % 30) as usize));
                i += 1;
            }
            "zeros" => out.push(0),
            _ => {
                let sparse = numbers.next().is_multiple_of(17);
                out.push(if sparse { numbers.next() as u8 } else { 32 });
            }
        }
    }
    out.truncate(len);
    out
}

/// Kind and length of the second part, level, window bits; length and CRC-32 of the stream.
const STREAMS: &[(&str, usize, u8, u32, usize, u32)] = &[
    ("noise", 300, 0, 12, 332, 0x8a808c03),
    ("noise", 300, 0, 14, 332, 0xdd50624d),
    ("noise", 9000, 0, 14, 9032, 0xfd72f2b0),
    ("text", 1, 0, 12, 33, 0x8182881d),
    ("text", 40, 0, 12, 72, 0xbb0429b4),
    ("text", 40, 0, 14, 72, 0xc738fa6c),
    ("text", 3900, 0, 12, 3932, 0x8ab9ebe8),
    ("text", 15900, 0, 14, 15932, 0x8c075285),
    ("records", 7000, 0, 14, 7032, 0x25227c88),
    ("records", 16100, 0, 14, 16132, 0x59038108),
    ("zeros", 2, 0, 12, 34, 0x07e1a99e),
    ("zeros", 16000, 0, 14, 16032, 0x4e25d126),
    ("text", 0, 0, 12, 32, 0x27abd651),
    ("text", 0, 0, 14, 32, 0x6a264d0b),
    ("records", 8000, 0, 13, 8032, 0x49c6ae83),
    ("noise", 300, 1, 12, 327, 0x9bdebbdc),
    ("noise", 300, 1, 14, 327, 0xfadcb736),
    ("noise", 300, 2, 12, 327, 0x42c9d0c2),
    ("noise", 300, 2, 14, 327, 0x23cbdc28),
    ("noise", 300, 3, 12, 327, 0x1adf552f),
    ("noise", 300, 3, 14, 327, 0x7bdd59c5),
    ("noise", 300, 4, 12, 327, 0x9ad66d02),
    ("noise", 300, 4, 14, 327, 0xfbd461e8),
    ("noise", 300, 5, 12, 327, 0xf829d378),
    ("noise", 300, 5, 14, 327, 0x992bdf92),
    ("noise", 300, 6, 12, 327, 0x56dd26ae),
    ("noise", 300, 6, 14, 327, 0x37df2a44),
    ("noise", 300, 7, 12, 327, 0x927fd286),
    ("noise", 300, 7, 14, 327, 0x11bdfa33),
    ("noise", 300, 8, 12, 327, 0x2a351508),
    ("noise", 300, 8, 14, 327, 0xa9f73dbd),
    ("noise", 300, 9, 12, 327, 0xf7ebcb8a),
    ("noise", 300, 9, 14, 327, 0x7429e33f),
    ("noise", 9000, 1, 14, 9027, 0xa89b65b4),
    ("noise", 9000, 2, 14, 9027, 0x6b656b76),
    ("noise", 9000, 3, 14, 9027, 0xbeebb196),
    ("noise", 9000, 4, 14, 9027, 0x0fc1f7a5),
    ("noise", 9000, 5, 14, 9027, 0x72a9282f),
    ("noise", 9000, 6, 14, 9027, 0x78a3def6),
    ("noise", 9000, 7, 14, 9027, 0x0d51214b),
    ("noise", 9000, 8, 14, 9027, 0xe1d25b0c),
    ("noise", 9000, 9, 14, 9027, 0x0677c0a5),
    ("text", 1, 1, 12, 25, 0xde69f0ba),
    ("text", 1, 1, 14, 25, 0xbc4a82d8),
    ("text", 1, 2, 12, 25, 0x4888585f),
    ("text", 1, 2, 14, 25, 0x2aab2a3d),
    ("text", 1, 3, 12, 25, 0x4888585f),
    ("text", 1, 3, 14, 25, 0x2aab2a3d),
    ("text", 1, 4, 12, 25, 0x4888585f),
    ("text", 1, 4, 14, 25, 0x2aab2a3d),
    ("text", 1, 5, 12, 25, 0x4888585f),
    ("text", 1, 5, 14, 25, 0x2aab2a3d),
    ("text", 1, 6, 12, 25, 0xfad69b8f),
    ("text", 1, 6, 14, 25, 0x98f5e9ed),
    ("text", 1, 7, 12, 25, 0xbe3a0fd4),
    ("text", 1, 7, 14, 25, 0x225767ac),
    ("text", 1, 8, 12, 25, 0xbe3a0fd4),
    ("text", 1, 8, 14, 25, 0x225767ac),
    ("text", 1, 9, 12, 25, 0xbe3a0fd4),
    ("text", 1, 9, 14, 25, 0x225767ac),
    ("text", 40, 1, 12, 48, 0x52d3cc56),
    ("text", 40, 1, 14, 48, 0x74001978),
    ("text", 40, 2, 12, 49, 0xe58fd909),
    ("text", 40, 2, 14, 49, 0x397f0713),
    ("text", 40, 3, 12, 50, 0xfbc90bec),
    ("text", 40, 3, 14, 50, 0x06770248),
    ("text", 40, 4, 12, 51, 0xe30999ea),
    ("text", 40, 4, 14, 51, 0x324f4012),
    ("text", 40, 5, 12, 46, 0x3dce45ef),
    ("text", 40, 5, 14, 46, 0xd8e25261),
    ("text", 40, 6, 12, 49, 0x419384f4),
    ("text", 40, 6, 14, 49, 0x9d635aee),
    ("text", 40, 7, 12, 49, 0x4bf2bac0),
    ("text", 40, 7, 14, 49, 0xc74f4944),
    ("text", 40, 8, 12, 49, 0x0f7a3941),
    ("text", 40, 8, 14, 49, 0x83c7cac5),
    ("text", 40, 9, 12, 48, 0x26cf059b),
    ("text", 40, 9, 14, 48, 0x484072c5),
    ("text", 15900, 1, 14, 3257, 0xfa860541),
    ("text", 15900, 2, 14, 3295, 0x5b3a167e),
    ("text", 15900, 3, 14, 3248, 0xf415432b),
    ("text", 15900, 4, 14, 2956, 0x5a7784cb),
    ("text", 15900, 5, 14, 2776, 0xd05e9875),
    ("text", 15900, 6, 14, 2639, 0x8a43cefe),
    ("text", 15900, 7, 14, 2624, 0x77843eb4),
    ("text", 15900, 8, 14, 2598, 0x1efd5ac3),
    ("text", 15900, 9, 14, 2633, 0xcf17e80e),
    ("records", 7000, 1, 14, 1779, 0x6e010189),
    ("records", 7000, 2, 14, 1639, 0xe3c8d70e),
    ("records", 7000, 3, 14, 1584, 0xc2752092),
    ("records", 7000, 4, 14, 1605, 0xaf99d110),
    ("records", 7000, 5, 14, 1481, 0xc55a135d),
    ("records", 7000, 6, 14, 1431, 0xde5333ee),
    ("records", 7000, 7, 14, 1418, 0xad926686),
    ("records", 7000, 8, 14, 1441, 0x7f742b9d),
    ("records", 7000, 9, 14, 1434, 0xca5b7abf),
    ("records", 16100, 1, 14, 4060, 0x0d0af88e),
    ("records", 16100, 2, 14, 3754, 0x23408f78),
    ("records", 16100, 3, 14, 3631, 0x5b0e6515),
    ("records", 16100, 4, 14, 3629, 0x293a50c7),
    ("records", 16100, 5, 14, 3301, 0x9e87503e),
    ("records", 16100, 6, 14, 3251, 0x37e62eff),
    ("records", 16100, 7, 14, 3203, 0xf0e30f0b),
    ("records", 16100, 8, 14, 3152, 0x1e75479c),
    ("records", 16100, 9, 14, 3062, 0xc3de3c23),
    ("zeros", 2, 1, 12, 26, 0x88fa5e07),
    ("zeros", 2, 1, 14, 26, 0x2b247d01),
    ("zeros", 2, 2, 12, 26, 0x580ca958),
    ("zeros", 2, 2, 14, 26, 0xfbd28a5e),
    ("zeros", 2, 3, 12, 26, 0x580ca958),
    ("zeros", 2, 3, 14, 26, 0xfbd28a5e),
    ("zeros", 2, 4, 12, 26, 0x580ca958),
    ("zeros", 2, 4, 14, 26, 0xfbd28a5e),
    ("zeros", 2, 5, 12, 26, 0x580ca958),
    ("zeros", 2, 5, 14, 26, 0xfbd28a5e),
    ("zeros", 2, 6, 12, 26, 0xde6d254f),
    ("zeros", 2, 6, 14, 26, 0x7db30649),
    ("zeros", 2, 7, 12, 26, 0x229041a7),
    ("zeros", 2, 7, 14, 26, 0x7cd2d5c1),
    ("zeros", 2, 8, 12, 26, 0x229041a7),
    ("zeros", 2, 8, 14, 26, 0x7cd2d5c1),
    ("zeros", 2, 9, 12, 26, 0x229041a7),
    ("zeros", 2, 9, 14, 26, 0x7cd2d5c1),
    ("zeros", 16000, 1, 14, 107, 0x387797b7),
    ("zeros", 16000, 2, 14, 107, 0x81ce9185),
    ("zeros", 16000, 3, 14, 107, 0x81ce9185),
    ("zeros", 16000, 4, 14, 52, 0x09590f6e),
    ("zeros", 16000, 5, 14, 52, 0x09590f6e),
    ("zeros", 16000, 6, 14, 52, 0xbe25e63d),
    ("zeros", 16000, 7, 14, 52, 0x0068b3cd),
    ("zeros", 16000, 8, 14, 52, 0x0068b3cd),
    ("zeros", 16000, 9, 14, 52, 0x0068b3cd),
    ("sparse", 12000, 1, 14, 2136, 0xb759df2d),
    ("sparse", 12000, 2, 14, 2090, 0x91ae6dd5),
    ("sparse", 12000, 3, 14, 2077, 0xaf0a2f43),
    ("sparse", 12000, 4, 14, 2013, 0x962691a9),
    ("sparse", 12000, 5, 14, 2049, 0x92301f44),
    ("sparse", 12000, 6, 14, 1879, 0xa7dd425f),
    ("sparse", 12000, 7, 14, 1882, 0x40e3ef21),
    ("sparse", 12000, 8, 14, 1819, 0xc3bf34a1),
    ("sparse", 12000, 9, 14, 1824, 0xc622b8b8),
    ("text", 0, 1, 12, 24, 0x619a693d),
    ("text", 0, 1, 14, 24, 0x9ff5d461),
    ("text", 0, 2, 12, 24, 0x899a0277),
    ("text", 0, 2, 14, 24, 0x77f5bf2b),
    ("text", 0, 3, 12, 24, 0x899a0277),
    ("text", 0, 3, 14, 24, 0x77f5bf2b),
    ("text", 0, 4, 12, 24, 0x899a0277),
    ("text", 0, 4, 14, 24, 0x77f5bf2b),
    ("text", 0, 5, 12, 24, 0x899a0277),
    ("text", 0, 5, 14, 24, 0x77f5bf2b),
    ("text", 0, 6, 12, 24, 0x6a52face),
    ("text", 0, 6, 14, 24, 0x943d4792),
    ("text", 0, 7, 12, 24, 0x82ebd2a2),
    ("text", 0, 7, 14, 24, 0xe6850366),
    ("text", 0, 8, 12, 24, 0x82ebd2a2),
    ("text", 0, 8, 14, 24, 0xe6850366),
    ("text", 0, 9, 12, 24, 0x82ebd2a2),
    ("text", 0, 9, 14, 24, 0xe6850366),
];

#[test]
fn streams_are_those_of_zlib() {
    let first = input("records", 11, 5);
    let mut wrong = Vec::new();
    for &(kind, len, level, window_bits, stream_len, crc) in STREAMS {
        let second = input(kind, len, len as u64 + u64::from(level));
        let stream = deflate(&first, &second, level, window_bits);
        if (stream.len(), crc32fast::hash(&stream)) != (stream_len, crc) {
            wrong.push(format!("{kind} {len} level {level}: {} for {stream_len} bytes", stream.len()));
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn streams_inflate() {
    use super::super::stream::{Inflaters, inflate};
    let mut inflaters = Inflaters::default();
    for (kind, level) in
        ["noise", "text", "records", "zeros", "sparse", "text"].into_iter().zip([1, 3, 4, 6, 9, 0])
    {
        let (first, second) = (input("records", 30, 1), input(kind, 15000, 2));
        let stream = deflate(&first, &second, level, 14);
        let parts = inflate(&stream, 16384, &mut inflaters).unwrap();
        assert_eq!((parts.fields, parts.records, parts.len), (first, second, stream.len()), "{kind}");
    }
}
