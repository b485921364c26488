"""TLS for servers on this machine: a certificate made for these tests, which nothing else trusts. It is valid until 2120."""

from __future__ import annotations

import ssl
from pathlib import Path

CERTIFICATE = """\
-----BEGIN CERTIFICATE-----
MIIBZjCCAQ2gAwIBAgIBATAKBggqhkjOPQQDAjAUMRIwEAYDVQQDDAltb2EgdGVz
dHMwIBcNMjAwMTAxMDAwMDAwWhgPMjEyMDAxMDEwMDAwMDBaMBQxEjAQBgNVBAMM
CW1vYSB0ZXN0czBZMBMGByqGSM49AgEGCCqGSM49AwEHA0IABNeUhN8rjIzMtvsj
Lm1GJxgH8lOO37Qzb3Mz69v47Eyvu+/6xoj1fE2r2mMYl0Ckr1mkahwoom/b+VnX
Y9d2spmjTjBMMBoGA1UdEQQTMBGHBH8AAAGCCWxvY2FsaG9zdDAPBgNVHRMBAf8E
BTADAQH/MB0GA1UdDgQWBBS8PJS5+MxESSyUfegCV74zk4VjBzAKBggqhkjOPQQD
AgNHADBEAiBiIP90wLFlgukKQSTqKx096jXI8KKj/B5j7HKhJOIb0wIgBAA3B5+P
LmcWYAOOce0XKwgsMZtGjiPdUC9oXuW4tlI=
-----END CERTIFICATE-----
"""

KEY = """\
-----BEGIN PRIVATE KEY-----
MIGHAgEAMBMGByqGSM49AgEGCCqGSM49AwEHBG0wawIBAQQgNlzp/XDT6pg8W4d4
xS10w7Dv5ZaRwfy76GerJEtdZFOhRANCAATXlITfK4yMzLb7Iy5tRicYB/JTjt+0
M29zM+vb+OxMr7vv+saI9XxNq9pjGJdApK9ZpGocKKJv2/lZ12PXdrKZ
-----END PRIVATE KEY-----
"""


def server_context(folder: Path) -> ssl.SSLContext:
    """A server's context; ``folder`` receives the certificate and its key, which OpenSSL reads from files only."""
    (folder / "certificate.pem").write_text(CERTIFICATE)
    (folder / "key.pem").write_text(KEY)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(folder / "certificate.pem", folder / "key.pem")
    return context


def client_context() -> ssl.SSLContext:
    """A client's context that trusts this certificate and no other."""
    return ssl.create_default_context(cadata=CERTIFICATE)
