"""A hub of its own for a measurement, and nginx beside it."""
import os
import shutil
import subprocess
import time

NGINX = "http://127.0.0.1:18477"


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


def nginx(folder):
    """The process of nginx, which serves FOLDER at NGINX; None where it is not installed."""
    program = shutil.which("nginx", path=os.environ["PATH"] + ":/usr/sbin")
    if not program:
        return None
    (folder / "nginx.conf").write_text(f"""daemon off; master_process off; user root; pid {folder}/nginx.pid; error_log {folder}/nginx.log; events {{}}
http {{ access_log off; sendfile on; server {{ listen {NGINX.split("/")[2]}; location / {{ root {folder}; }} }} }}""")
    process = subprocess.Popen([program, "-c", folder / "nginx.conf"], stderr=subprocess.DEVNULL)
    time.sleep(0.5)
    return process
