//! What arrives when, and on what machines: the scenarios.

/// A small generator of numbers (SplitMix64), the same on every machine.
#[derive(Debug, Clone)]
pub(super) struct Random(u64);

impl Random {
    pub(super) fn new(seed: u64) -> Self {
        Self(seed)
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// From 0 to just below 1.
    pub(super) fn unit(&mut self) -> f64 {
        f64::from(u32::try_from(self.next() >> 32).unwrap_or(0)) / (f64::from(u32::MAX) + 1.0)
    }

    /// One of `from..=to`.
    pub(super) fn between(&mut self, (from, to): (u64, u64)) -> u64 {
        from + self.next() % (to - from + 1)
    }

    /// Whether something that happens once in `mean` seconds happens in this one.
    pub(super) fn once_in(&mut self, mean: f64) -> bool {
        self.unit() * mean < 1.0
    }
}

/// A job that will arrive.
#[derive(Debug, Clone, Copy)]
pub(super) struct Arrival {
    /// Second of its arrival.
    pub(super) at: u64,
    /// Seconds that it takes.
    pub(super) takes: u64,
    /// The stack that it must have for itself.
    pub(super) stack: u64,
}

/// When jobs come.
#[derive(Debug, Clone, Copy)]
enum Load {
    /// Few, and every half an hour to an hour many at once.
    Bursts,
    /// Many by day, few at night.
    Day,
    /// As many at any time.
    Steady,
}

/// Jobs and machines.
#[derive(Debug, Clone)]
pub(super) struct Scenario {
    pub(super) name: &'static str,
    load: Load,
    /// Seconds of arrivals.
    pub(super) length: u64,
    /// Seconds from a machine's begin until its agent is connected.
    pub(super) boot: (u64, u64),
    /// After how many seconds the cloud takes a machine back, on average.
    pub(super) lives: Option<f64>,
    pub(super) slots: u32,
    pub(super) min: u32,
    pub(super) max: u32,
}

const HOUR: u64 = 3_600;

impl Scenario {
    pub(super) fn all() -> Vec<Self> {
        let plain = Self {
            name: "bursts",
            load: Load::Bursts,
            length: 24 * HOUR,
            boot: (60, 100),
            lives: None,
            slots: 2,
            min: 1,
            max: 20,
        };
        vec![
            plain.clone(),
            Self { name: "day and night", load: Load::Day, length: 48 * HOUR, ..plain.clone() },
            Self { name: "spot loss", load: Load::Steady, lives: Some(7_200.0), ..plain.clone() },
            Self { name: "slow boot", boot: (240, 420), ..plain },
        ]
    }

    /// What arrives, in order.
    pub(super) fn arrivals(&self, seed: u64) -> Vec<Arrival> {
        let mut random = Random::new(seed);
        let mut found = Vec::new();
        let mut burst = random.between((600, 3_600));
        for at in 0..self.length {
            let mut count = u64::from(random.once_in(3_600.0 / self.per_hour(at)));
            if matches!(self.load, Load::Bursts) && at == burst {
                count += random.between((15, 40));
                burst = at + random.between((1_800, 3_600));
            }
            for _ in 0..count {
                found.push(Arrival { at, takes: random.between((60, 480)), stack: random.between((0, 200)) });
            }
        }
        found
    }

    fn per_hour(&self, at: u64) -> f64 {
        match self.load {
            Load::Bursts => 6.0,
            Load::Steady => 60.0,
            Load::Day => {
                let hour = f64::from(u32::try_from(at % (24 * HOUR)).unwrap_or(0)) / 3_600.0;
                // Least at two at night, most at two in the afternoon.
                3.0 + 60.0 * (0.5 - 0.5 * ((hour - 2.0) / 24.0 * std::f64::consts::TAU).cos()).powi(2)
            }
        }
    }
}
