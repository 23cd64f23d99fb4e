//! Facts about the host, for the controller to show and to place jobs by.

use sysinfo::{MemoryRefreshKind, RefreshKind, System};

use crate::water::{Disks, Found};

/// Facts about the host at one moment. Sizes in bytes.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Facts {
    /// Host name.
    pub hostname: String,
    /// Distribution with its version.
    pub os: String,
    /// Kernel release.
    pub kernel: String,
    /// Architecture, as in `x86_64`.
    pub arch: String,
    /// Processors this process may use.
    pub cpus: u32,
    /// Memory of the host.
    pub memory_total: u64,
    /// Memory that can be had without swapping.
    pub memory_available: u64,
    /// One-minute load average.
    pub load: f64,
    /// What is left of the file systems that jobs need.
    pub disks: Found,
}

/// Reads facts again and again at little cost: what does not change is read once.
#[derive(Debug)]
pub struct Probe {
    system: Option<System>,
    disks: Disks,
    constant: Facts,
}

impl Probe {
    /// A probe for the host of this process.
    #[must_use]
    pub fn new(disks: Disks) -> Self {
        let kind = RefreshKind::nothing().with_memory(MemoryRefreshKind::nothing().with_ram());
        let constant = Facts {
            hostname: hostname(),
            os: System::long_os_version().unwrap_or_default(),
            kernel: System::kernel_version().unwrap_or_default(),
            arch: std::env::consts::ARCH.to_owned(),
            cpus: std::thread::available_parallelism()
                .ok()
                .and_then(|cpus| u32::try_from(cpus.get()).ok())
                .unwrap_or(1),
            ..Facts::default()
        };
        Self { system: System::new_with_specifics(kind).ok(), disks, constant }
    }

    /// The facts as they are now; what cannot be read is 0.
    pub fn read(&mut self) -> Facts {
        let mut facts = self.constant.clone();
        if let Some(system) = &mut self.system {
            system.refresh_memory_specifics(MemoryRefreshKind::nothing().with_ram());
            facts.memory_total = system.total_memory();
            facts.memory_available = system.available_memory();
        }
        facts.load = System::load_average().map_or(0.0, |load| load.one);
        facts.disks = self.disks.look().unwrap_or_default();
        facts
    }
}

/// The host's name; `unknown` when the kernel does not say.
#[must_use]
pub fn hostname() -> String {
    nix::unistd::gethostname().map_or_else(|_| "unknown".to_owned(), |name| name.to_string_lossy().into_owned())
}

/// Memory of the host in bytes; 0 when the kernel does not say.
#[must_use]
pub fn memory() -> u64 {
    let kind = RefreshKind::nothing().with_memory(MemoryRefreshKind::nothing().with_ram());
    System::new_with_specifics(kind).map_or(0, |system| system.total_memory())
}

/// Names this boot of the host: another one means that every process of before is gone.
///
/// # Errors
/// When `/proc` is not there.
pub fn boot_id() -> std::io::Result<String> {
    Ok(std::fs::read_to_string("/proc/sys/kernel/random/boot_id")?.trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn knows_where_it_runs() {
        let facts = Probe::new(Disks::new(std::env::temp_dir(), None)).read();
        assert!(facts.cpus > 0 && facts.memory_total > 0 && facts.memory_available > 0, "{facts:?}");
        assert!(facts.disks.state.total > 0, "{facts:?}");
        assert!(!facts.hostname.is_empty() && !facts.kernel.is_empty() && !facts.arch.is_empty(), "{facts:?}");
        assert_eq!(boot_id().unwrap().len(), 36);
    }
}
