//! How many arenas glibc's malloc keeps memory in.
//!
//! Threads that allocate at the same time get an arena each, up to eight for every processor, and what is freed in one serves no
//! other. The blocks of a download are made by one thread, summed and written by another and dropped by a third, a dozen of them in turns: by and by
//! every arena holds as much free memory as was ever in use there. With one arena a process of a 1 to 4 transfer peaks at 37 to 52 MiB
//! where it was 51 to 70, and takes no more of the processor.
//!
//! A package of its own because the call is unsafe, as all are into C. It takes two numbers and keeps no pointer; what makes it
//! unsound by the C library's manual is another thread that allocates meanwhile, so it is for the beginning of a program.
#![cfg_attr(all(target_os = "linux", target_env = "gnu"), expect(unsafe_code, reason = "calls C with two numbers"))]
#![cfg_attr(test, allow(clippy::disallowed_methods, reason = "the seams bind the roles, not this"))]

/// Lets malloc make no more arenas than there are. Call it before there are threads; elsewhere than with glibc nothing happens.
pub fn keep_one() {
    // SAFETY: see the text of the package.
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    unsafe {
        libc::mallopt(libc::M_ARENA_MAX, 1);
    }
}

#[cfg(all(test, target_os = "linux", target_env = "gnu"))]
mod tests {
    use std::{hint::black_box, sync::Barrier, thread};

    use super::keep_one;

    /// Addresses that each arena but the first has for itself, and begins at a multiple of.
    const RESERVED: usize = 64 << 20;

    /// Arenas beside the first, while so many threads have allocated.
    fn arenas_with(threads: usize) -> usize {
        let (allocated, counted) = (Barrier::new(threads + 1), Barrier::new(threads + 1));
        thread::scope(|scope| {
            for _ in 0..threads {
                scope.spawn(|| {
                    let kept = black_box(vec![1; 1000]);
                    allocated.wait();
                    counted.wait();
                    drop(kept);
                });
            }
            allocated.wait();
            let arenas = arenas();
            counted.wait();
            arenas
        })
    }

    fn arenas() -> usize {
        let maps = std::fs::read_to_string("/proc/self/maps").expect("Linux tells what is mapped");
        let (begins, ends): (Vec<usize>, Vec<usize>) = maps
            .lines()
            .filter_map(|line| line.split(' ').next()?.split_once('-'))
            .filter_map(|(begin, end)| {
                Some((usize::from_str_radix(begin, 16).ok()?, usize::from_str_radix(end, 16).ok()?))
            })
            .unzip();
        let is_arena = |begin: &&usize| begin.is_multiple_of(RESERVED) && ends.contains(&(**begin + RESERVED));
        begins.iter().filter(is_arena).count()
    }

    #[test]
    fn threads_share_the_arenas_there_are() {
        let (few, more) = (arenas_with(1), arenas_with(3));
        assert!(more > few, "threads have arenas of their own: {few}, {more}");
        keep_one();
        assert_eq!(arenas_with(7), more);
    }
}
