"""Makes of what Debian's packages carry what package managers fetch.

wheel OUT NAME VERSION REQUIRES SITE PART...   a wheel of PARTs of SITE (dist-packages); REQUIRES by commas
module OUT GOCODE PATH@VERSION...              files of a Go module proxy, from folders below GOCODE
"""

import base64
import hashlib
import json
import os
import sys
import zipfile


def files_below(path):
    if os.path.isfile(path):
        yield path
    for folder, folders, names in os.walk(path):
        folders[:] = sorted(name for name in folders if name != "__pycache__")
        for name in sorted(names):
            found = os.path.join(folder, name)
            if not os.path.islink(found):
                yield found


def wheel(out, name, version, requires, site, *parts):
    facts = f"{name}-{version}.dist-info"
    lines = [f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n"]
    lines += [f"Requires-Dist: {each}\n" for each in requires.split(",") if each]
    entries = {
        f"{facts}/METADATA": "".join(lines).encode(),
        f"{facts}/WHEEL": b"Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    for part in parts:
        for path in files_below(os.path.join(site, part)):
            with open(path, "rb") as file:
                entries[os.path.relpath(path, site)] = file.read()
    record = ""
    for path, data in entries.items():
        digest = base64.urlsafe_b64encode(hashlib.sha256(data).digest()).rstrip(b"=").decode()
        record += f"{path},sha256={digest},{len(data)}\n"
    entries[f"{facts}/RECORD"] = f"{record}{facts}/RECORD,,\n".encode()
    folder = os.path.join(out, name)
    os.makedirs(folder, exist_ok=True)
    file = f"{name}-{version}-py3-none-any.whl"
    with zipfile.ZipFile(os.path.join(folder, file), "w", zipfile.ZIP_DEFLATED) as archive:
        for path, data in entries.items():
            archive.writestr(path, data)
    with open(os.path.join(folder, "index.html"), "w") as index:
        index.write(f'<!DOCTYPE html><html><body><a href="{file}">{file}</a></body></html>\n')


def module(out, gocode, *specs):
    for spec in specs:
        path, version = spec.split("@")
        source = os.path.join(gocode, path)
        folder = os.path.join(out, path, "@v")
        os.makedirs(folder, exist_ok=True)
        text = f"module {path}\n"
        if os.path.exists(os.path.join(source, "go.mod")):
            with open(os.path.join(source, "go.mod")) as file:
                text = file.read()
        at = os.path.join(folder, version)
        with open(f"{at}.mod", "w") as file:
            file.write(text)
        with open(f"{at}.info", "w") as file:
            json.dump({"Version": version, "Time": "2020-01-01T00:00:00Z"}, file)
        with open(os.path.join(folder, "list"), "w") as file:
            file.write(f"{version}\n")
        with zipfile.ZipFile(f"{at}.zip", "w", zipfile.ZIP_DEFLATED) as archive:
            for found in files_below(source):
                archive.write(found, f"{path}@{version}/{os.path.relpath(found, source)}")


{"wheel": wheel, "module": module}[sys.argv[1]](*sys.argv[2:])
