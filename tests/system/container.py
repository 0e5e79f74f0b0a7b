# SPDX-License-Identifier: LGPL-2.1-or-later
"""A real systemd in a container that is thrown away.

The machine's own file system, under an overlay in memory, is booted with systemd-nspawn in the network namespace of
this process, which has nothing but loopback. So the tests may install, listen on any port and break things, and
sockets that the tests open are on the same loopback as the container's. Needs root.
"""

import ctypes
import os
import pty
import shutil
import signal
import subprocess
import tempfile
import threading
import time

CLONE_NEWNET = 0x40000000
BOOT_SECONDS = 60
POWEROFF_SECONDS = 30


class ContainerError(Exception):
    pass


def leave_network():
    """From here on this process and its children have a network of their own: loopback."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.unshare(CLONE_NEWNET) != 0:
        error = ctypes.get_errno()
        raise OSError(error, os.strerror(error), "unshare")
    subprocess.run(["ip", "link", "set", "lo", "up"], check=True)


class Container:
    def __init__(self):
        self.directory = tempfile.mkdtemp(prefix="emailrelay-system-")
        self.base = os.path.join(self.directory, "root")
        self.console = os.path.join(self.directory, "console.log")
        self.machine = f"ertest-{os.getpid()}"
        self.nspawn = None
        self.init = None
        self.mounted = False

    # ---- its life ----

    def boot(self):
        os.mkdir(self.base)
        subprocess.run(["mount", "--bind", "/", self.base], check=True)
        self.mounted = True
        # PrivateNetwork= inside wants to bring up a loopback device, hence the capability
        command = ["systemd-nspawn", "--quiet", "-D", self.base, "--volatile=overlay", "--boot", "--register=no",
                   "--keep-unit", f"--machine={self.machine}", "--console=interactive",
                   "--capability=CAP_NET_ADMIN", "--resolv-conf=off", "systemd.unit=basic.target"]
        master, slave = pty.openpty()
        self.nspawn = subprocess.Popen(command, stdin=slave, stdout=slave, stderr=slave, start_new_session=True)
        os.close(slave)
        threading.Thread(target=self._copy_console, args=(master,), daemon=True).start()
        deadline = time.monotonic() + BOOT_SECONDS
        while time.monotonic() < deadline:
            if self.nspawn.poll() is not None:
                break
            self.init = self.init or self._find_init()
            if self.init:
                state = self.run("systemctl", "is-system-running", check=False).stdout.strip()
                if state in ("running", "degraded"):
                    return
            time.sleep(0.1)
        with open(self.console, errors="replace") as file:
            raise ContainerError("the container did not boot:\n" + file.read()[-4000:])

    def _copy_console(self, master):
        with open(self.console, "wb") as file:
            while True:
                try:
                    data = os.read(master, 4096)
                except OSError: # nobody has the other end open any more
                    break
                if not data:
                    break
                file.write(data)
                file.flush()
        os.close(master)

    def _find_init(self):
        """The process that is number 1 in there, among the descendants of systemd-nspawn."""
        todo = [self.nspawn.pid]
        while todo:
            pid = todo.pop()
            try:
                with open(f"/proc/{pid}/status") as file:
                    status = dict(line.rstrip("\n").split(":\t", 1) for line in file if ":\t" in line)
                if status["Name"] == "systemd" and status["NSpid"].split()[1:] == ["1"]:
                    return pid
                with open(f"/proc/{pid}/task/{pid}/children") as file:
                    todo += [int(child) for child in file.read().split()]
            except (FileNotFoundError, ProcessLookupError):
                pass
        return None

    def close(self):
        """Whatever state it is in: nothing of it stays."""
        if self.nspawn and self.nspawn.poll() is None:
            try:
                if self.init:
                    self.run("systemctl", "poweroff", check=False, timeout=10)
                    self.nspawn.wait(POWEROFF_SECONDS)
            except (subprocess.TimeoutExpired, ContainerError):
                pass
            if self.nspawn.poll() is None:
                if self.init:
                    os.kill(self.init, signal.SIGKILL) # takes all others in there along
                self.nspawn.kill()
                self.nspawn.wait()
        if self.mounted:
            subprocess.run(["umount", "--lazy", self.base], check=True)
            self.mounted = False
        try:
            os.rmdir(f"/run/systemd/nspawn/propagate/{self.machine}")
        except OSError:
            pass
        if not os.path.ismount(self.base):
            shutil.rmtree(self.directory, ignore_errors=True)

    # ---- what can be done in it ----

    def path(self, path):
        """A file of the container, as this process can open it."""
        return f"/proc/{self.init}/root{path}"

    def run(self, *command, check=True, timeout=60, **keywords):
        """Runs a command inside; returns the CompletedProcess, its output as text."""
        command = ["nsenter", "-t", str(self.init), "-m", "-p", "-u", "-i", "-n", "-r", "-w", "--"] + list(command)
        environment = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LANG": "C.UTF-8", "SYSTEMD_PAGER": "",
                       "SYSTEMD_COLORS": "0"}
        if "input" not in keywords:
            keywords["stdin"] = subprocess.DEVNULL
        result = subprocess.run(command, env=environment, timeout=timeout, text=True, stdout=subprocess.PIPE,
                                stderr=subprocess.PIPE, **keywords)
        if check and result.returncode != 0:
            raise ContainerError(f"{' '.join(command[11:])}: status {result.returncode}: "
                                 f"{result.stdout[-1000:]}{result.stderr[-1000:]}")
        return result

    def install(self, root):
        """Copies what "meson install" made with DESTDIR=root, and does what a package does after that."""
        subprocess.run(["cp", "-a", "--no-preserve=ownership", root + "/.", self.path("/")], check=True)
        self.run("systemd-sysusers")
        self.run("systemd-tmpfiles", "--create", "/usr/lib/tmpfiles.d/emailrelay.conf")
        self.run("systemctl", "daemon-reload")
        self.run("journalctl", "--update-catalog")

    def read(self, path):
        with open(self.path(path), errors="replace") as file:
            return file.read()

    def write(self, path, text, mode=0o644):
        os.makedirs(os.path.dirname(self.path(path)), exist_ok=True)
        with open(self.path(path), "w") as file:
            file.write(text)
        os.chmod(self.path(path), mode)

    def remove(self, path):
        try:
            os.unlink(self.path(path))
        except FileNotFoundError:
            pass

    def list(self, path):
        return sorted(os.listdir(self.path(path)))

    # ---- systemd ----

    def systemctl(self, *arguments, **keywords):
        return self.run("systemctl", *arguments, **keywords)

    def show(self, unit, name):
        return self.systemctl("show", "--value", "-p", name, unit).stdout.strip()

    def pid(self, unit):
        """Main process of a service, 0 when it does not run."""
        return int(self.show(unit, "MainPID"))

    def kill(self, unit, number):
        """Sends a signal to the main process alone."""
        self.run("kill", f"-{number}", str(self.pid(unit)), check=False)

    def drop_in(self, unit, text, name="50-test"):
        """Writes a drop-in of a unit; None removes it."""
        path = f"/etc/systemd/system/{unit}.d/{name}.conf"
        if text is None:
            self.remove(path)
        else:
            self.write(path, text)
        self.systemctl("daemon-reload")
