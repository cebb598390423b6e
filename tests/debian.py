"""A bare Debian box for tests: debootstrap's, booted with its own systemd in namespaces of its own.

No virtual machine and no container engine: `unshare` gives it process ids, mounts, a host name, an
IPC space and a network that is nothing but loopback. Its systemd is told that it is in a container.
"""

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.eventually import eventually_blocking

SUITE = "bookworm"
MIRROR = "http://deb.debian.org/debian"
BASE = "python3,python3-venv,tini,ca-certificates"
"""What the image needs of its base, as Python's slim image has it."""
INIT = "systemd systemd-sysv dbus"
MACHINE_ADDRESS = "192.0.2.10"
"""Of the machine in the examples; inside the box it may be had."""
BOOT = f"""
set -eu
root="$1"
mount --make-rprivate /
mount --bind "$root" "$root"
mount -t proc proc "$root/proc"
mount -t sysfs -o ro sysfs "$root/sys"
for there in run tmp dev; do mount -t tmpfs -o mode=755 "$there" "$root/$there"; done
chmod 1777 "$root/tmp"
for device in null zero full random urandom tty; do
  touch "$root/dev/$device"; mount --bind "/dev/$device" "$root/dev/$device"
done
mkdir "$root/dev/pts" "$root/dev/shm"
mount -t devpts -o newinstance,ptmxmode=0666,mode=620 devpts "$root/dev/pts"
ln -s pts/ptmx "$root/dev/ptmx"
mount -t tmpfs -o mode=755 cgroup "$root/sys/fs/cgroup"
if [ "$(stat -fc %T /sys/fs/cgroup)" = cgroup2fs ]; then
  mount -t cgroup2 cgroup2 "$root/sys/fs/cgroup"
else
  mkdir "$root/sys/fs/cgroup/systemd"
  mount -t cgroup -o none,name=systemd cgroup "$root/sys/fs/cgroup/systemd"
  for of in memory pids devices cpu; do
    mkdir "$root/sys/fs/cgroup/$of"; mount -t cgroup -o "$of" cgroup "$root/sys/fs/cgroup/$of"
  done
fi
ip link set lo up
ip address add {MACHINE_ADDRESS}/32 dev lo
cd "$root"
mkdir -p old && pivot_root . old && umount -l /old
# What systemd mounts for its services, credentials above all, must be seen by all.
mount --make-rshared /
exec env -i container=test PATH=/usr/sbin:/usr/bin:/sbin:/bin \
  /lib/systemd/systemd --unit=multi-user.target --log-target=journal
"""


def debootstrap(folder: Path, include: str) -> None:
    """Install a minimal Debian into `folder`, without what apt leaves behind."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    command = ["debootstrap", "--variant=minbase", f"--include={include}", SUITE, str(folder)]
    subprocess.run([*command, MIRROR], check=True, capture_output=True, timeout=600)
    for left in ("var/lib/apt/lists", "var/cache/apt", "usr/share/doc", "usr/share/man"):
        shutil.rmtree(folder / left, ignore_errors=True)
    # apt will not make these again by itself.
    (folder / "var/cache/apt/archives/partial").mkdir(parents=True)
    (folder / "var/lib/apt/lists/partial").mkdir(parents=True)


class Box:
    """A Debian that is running; commands are run inside it."""

    def __init__(self, root: Path, process: "subprocess.Popen[bytes]") -> None:
        self.root = root
        self._process = process

    @property
    def pid(self) -> int:
        """Of its systemd, as this machine sees it; 0 where there is none yet."""
        of = Path(f"/proc/{self._process.pid}/task/{self._process.pid}/children")
        children = of.read_text().split() if of.exists() else []
        return int(children[0]) if children else 0

    def run(self, script: str, *, timeout_s: float = 300) -> subprocess.CompletedProcess[str]:
        """Run a script as root of the box, stopping at its first fault; gives all that it said."""
        command = ["nsenter", "-t", str(self.pid), "-p", "-m", "-u", "-i", "-n", "-r", "-w"]
        path = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
        shell = ["env", "-i", path, "HOME=/root", "bash", "-euo", "pipefail", "-c", script]
        return subprocess.run(
            [*command, *shell],
            check=False,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=timeout_s,
        )

    def must(self, script: str, *, timeout_s: float = 300) -> str:
        """The same where a failure is the test's."""
        done = self.run(script, timeout_s=timeout_s)
        assert done.returncode == 0, f"{script}\n{done.stdout[-4000:]}"
        return done.stdout

    def beside(self, *command: str) -> "subprocess.Popen[bytes]":
        """Start a program of this machine that shares no more than the box's network."""
        inside = ["nsenter", "-t", str(self.pid), "-n", *command]
        return subprocess.Popen(inside, stdin=subprocess.DEVNULL, stdout=sys.stderr)

    def is_up(self) -> bool:
        """Whether systemd has started all that it should."""
        state = Path(f"/proc/{self.pid}/root/run/systemd/private")
        return bool(self.pid) and state.exists() and self._running()

    def _running(self) -> bool:
        said = self.run("systemctl is-system-running || true").stdout.strip()
        return said in ("running", "degraded")


@contextmanager
def booted(root: Path) -> Iterator[Box]:
    """The box of `root`, running until the block ends."""
    command = ["unshare", "--pid", "--mount", "--uts", "--ipc", "--net", "--cgroup", "--fork"]
    # With its starter dies everything in it.
    process = subprocess.Popen(
        [*command, "--kill-child", "bash", "-c", BOOT, "boot", str(root)],
        stdin=subprocess.DEVNULL,
        env={"PATH": os.environ["PATH"]},
    )
    box = Box(root, process)
    try:
        eventually_blocking(box.is_up, timeout_s=60)
        yield box
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait(30)
