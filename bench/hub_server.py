"""A hub of its own for a measurement."""
import subprocess


def start(farseek, data, *options):
    """The process of farseek hub serve over a new folder, its URL and the admin's token."""
    server = subprocess.Popen([farseek, "hub", "serve", "--data", data, "--port", "0", "--quiet", *options], stdout=subprocess.PIPE, text=True)
    token = None
    for line in server.stdout:
        if line.startswith("user admin"):
            token = line.split("token ")[1].split()[0]
        if line.startswith("hub at "):
            return server, line.split()[2], token
    raise SystemExit(f"{farseek} hub serve ended at once")
