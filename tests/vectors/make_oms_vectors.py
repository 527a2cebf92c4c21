"""Signs tests/vectors/oms/model with PyPI model-signing 1.1.1 (pip install model-signing pyopenssl) and fresh keys: model.sig and key.pub of P-256,
p384.sig and p384.pub, p521.sig and p521.pub. The secret keys are not kept."""
import pathlib
import subprocess
import tempfile

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

here = pathlib.Path(__file__).parent / "oms"
for name, curve in (("p256", ec.SECP256R1()), ("p384", ec.SECP384R1()), ("p521", ec.SECP521R1())):
    key = ec.generate_private_key(curve)
    (here / f"{name}.pub").write_bytes(key.public_key().public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo))
    with tempfile.NamedTemporaryFile(suffix=".pem") as f:
        f.write(key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.TraditionalOpenSSL, serialization.NoEncryption()))
        f.flush()
        subprocess.run(["model_signing", "sign", "key", "model", "--private_key", f.name, "--signature", f"{name}.sig"], check=True, cwd=here)
