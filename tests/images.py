"""Images built without a Docker engine: Debian's own base, buildah, and podman with runc."""

import json
import os
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

from tests.commands import blocks

ROOT = Path(__file__).resolve().parents[1]
BASE = "localhost/forewarn-base"
UID = 10001
SITE = "/opt/forewarn/lib/python3.11/site-packages"
RUNTIME = ["--runtime", "runc", "--cgroup-manager=cgroupfs"]
LIMITS = ["--ulimit", "nofile=1024:1024", "--ulimit", "nproc=4096:4096"]


@dataclass
class Store:
    """Where images and containers of this test live; gone with its folder."""

    folder: Path
    driver: str = "vfs"

    @classmethod
    def at(cls, folder: Path) -> "Store":
        """One whose layers share what they have in common, where the file system can do that."""
        quick = cls(folder, "overlay")
        done = subprocess.run(
            ["buildah", *quick.options, "from", "scratch"], check=False, capture_output=True
        )
        if done.returncode == 0:
            return quick
        shutil.rmtree(folder / "storage", ignore_errors=True)
        return cls(folder)

    @property
    def context(self) -> Path:
        """What `docker build` would be given."""
        return self.folder / "context"

    @property
    def options(self) -> list[str]:
        """Common to buildah and podman."""
        root, run = self.folder / "storage", self.folder / "run"
        return ["--root", str(root), "--runroot", str(run), "--storage-driver", self.driver]

    def fill(self, base: Path) -> None:
        """Make the base image of a Debian's folder, and lay out the checkout for the build."""
        scratch = self.buildah("from", "scratch")
        self.buildah("copy", "--quiet", scratch, str(base), "/")
        self.buildah("commit", "--quiet", scratch, BASE)
        self.buildah("rm", "--all")
        self.context.mkdir()
        for name in ("pyproject.toml", "README.md", "LICENSE"):
            shutil.copy(ROOT / name, self.context / name)
        ignore = shutil.ignore_patterns("__pycache__", "node_modules", "wheelhouse", ".env")
        for name in ("gateway", "protocols", "models", "docker"):
            shutil.copytree(ROOT / name, self.context / name, ignore=ignore)

    def clear(self) -> None:
        """Leave nothing."""
        self.podman("rm", "--all", "--force", check=False)
        self.buildah("rmi", "--all", "--force")
        shutil.rmtree(self.folder, ignore_errors=True)

    def buildah(self, *words: str) -> str:
        """Run buildah to its end; gives what it printed."""
        return run("buildah", *self.options, *words)

    def podman(self, *words: str, check: bool = True) -> str:
        """Run podman to its end."""
        return run("podman", *self.options, *RUNTIME, *words, check=check)

    def build(self, target: str) -> str:
        """Build a target without any network; gives the name of the image."""
        wheels = self.context / "docker" / "wheelhouse"
        (script,) = (b.text for b in blocks(ROOT / "docker" / "README.md") if b.where == "image")
        script = script.replace("TARGET=gateway", f"TARGET={target}")
        run("bash", "-euc", script, cwd=ROOT, env={"MAKEFLAGS": f"WHEELS={wheels}"})
        image = f"localhost/forewarn-{target}-under-test"
        run(
            "unshare", "--net", "buildah", *self.options,
            "bud", "--isolation", "chroot", "--pull-never", "--quiet", "--format", "docker",
            "--build-arg", f"BASE_IMAGE={BASE}", "--target", target, "-t", image,
            "-f", str(self.context / "docker" / "Dockerfile"), str(self.context),
        )  # fmt: skip
        shutil.rmtree(wheels)
        return image

    def inside(self, image: str, script: str) -> str:
        """What a script says in a container of its own that may write to /tmp alone."""
        return self.podman(
            "run", "--rm", "--read-only", "--cap-drop", "ALL", "--network", "none", *LIMITS,
            "--tmpfs", "/tmp", "--workdir", "/tmp", "--entrypoint", "sh", image, "-euc", script,
        )  # fmt: skip

    def size_mb(self, image: str) -> int:
        """Megabytes of all its layers."""
        return int(json.loads(self.buildah("images", "--json", image))[0]["size"].split()[0])


def run(
    *command: str,
    check: bool = True,
    timeout_s: float = 500,
    cwd: Path | None = None,
    env: dict[str, str] | None = None,
) -> str:
    done = subprocess.run(
        command,
        check=False,
        capture_output=True,
        text=True,
        timeout=timeout_s,
        cwd=cwd,
        env=os.environ | (env or {}),
    )
    assert done.returncode == 0 or not check, (
        f"{command}:\n{done.stdout[-3000:]}{done.stderr[-3000:]}"
    )
    return done.stdout.strip()
