"""Fakes of Google Cloud KMS and Cloud Storage, Azure Key Vault with Entra ID, and Huawei Cloud KMS.

They are strict about the wire: whatever the services' references do not ask for, or ask for and do not get, is a
refusal that says so. They encrypt for real, so what one client wraps another unwraps.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import os
import re
import time
from base64 import b64decode, b64encode, urlsafe_b64decode, urlsafe_b64encode
from email import message_from_bytes
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl, urlsplit

from cryptography.exceptions import InvalidSignature, InvalidTag
from cryptography.hazmat.primitives.asymmetric.padding import MGF1, OAEP, PSS, PKCS1v15
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey, generate_private_key
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from tests.interop.fakes.internet import Answer, Seen

if TYPE_CHECKING:
    from cryptography.x509 import Certificate

    from tests.interop.fakes.internet import Internet


def unpadded(text: str) -> bytes:
    if re.fullmatch(r"[A-Za-z0-9_-]*", text) is None:
        raise Refused(400, "no base64url without padding")
    return urlsafe_b64decode(text + "=" * (-len(text) % 4))


def url64(data: bytes) -> str:
    return urlsafe_b64encode(data).rstrip(b"=").decode()


class Refused(Exception):
    def __init__(self, status: int, why: str) -> None:
        super().__init__(why)
        self.status = status
        self.why = why


def need(condition: object, status: int, why: str) -> None:
    if not condition:
        raise Refused(status, why)


def jwt(token: str) -> tuple[dict[str, Any], dict[str, Any], bytes, bytes]:
    """Header, claims, what is signed, signature."""
    head, claims, signature = token.split(".")
    return json.loads(unpadded(head)), json.loads(unpadded(claims)), f"{head}.{claims}".encode(), unpadded(signature)


class FakeGoogle:
    """key_id: the one key there is. It lets in its service account, and whoever brings `token`."""

    key_id = "projects/my-project/locations/europe-west3/keyRings/ring/cryptoKeys/key_1"
    token = "a-google-token"

    def __init__(self, internet: Internet) -> None:
        self._rsa = generate_private_key(65537, 2048)
        self._aes = AESGCM(AESGCM.generate_key(256))
        pem = self._rsa.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        self.account = {
            "type": "service_account",
            "project_id": "my-project",
            "client_email": "sops@my-project.iam.gserviceaccount.com",
            "private_key_id": "0123",
            "private_key": pem.decode(),
            "token_uri": "https://oauth2.googleapis.com/token",
        }
        internet.services["cloudkms.googleapis.com"] = self._kms
        internet.services["oauth2.googleapis.com"] = self._exchange
        internet.services["127.0.0.1"] = self._metadata
        self.metadata_host = f"127.0.0.1:{internet.port}"

    def _kms(self, seen: Seen) -> Answer:
        try:
            self.check_token(seen.headers.get("authorization", ""))
            verb = seen.path.partition("?")[0].removeprefix(f"/v1/{self.key_id}:")
            need(verb in ("encrypt", "decrypt"), 404, f"no key or method at {seen.path}")
            need(seen.method == "POST", 405, "POST it is")
            need(seen.headers.get("content-type", "").startswith("application/json"), 400, "no JSON")
            body = seen.json()
            name = {"encrypt": "plaintext", "decrypt": "ciphertext"}[verb]
            need(body.pop("name", self.key_id) == self.key_id, 400, "another name")  # Google's Go library repeats it
            need(set(body) == {name}, 400, f"fields {sorted(body)}")
            data = b64decode(body[name], validate=True)
            if verb == "encrypt":
                nonce = os.urandom(12)
                wrapped = b"\x0a\x24" + nonce + self._aes.encrypt(nonce, data, None)
                return Answer(
                    200, {"name": f"{self.key_id}/cryptoKeyVersions/1", "ciphertext": b64encode(wrapped).decode()}
                )
            try:
                plain = self._aes.decrypt(data[2:14], data[14:], None)
            except (InvalidTag, ValueError):
                raise Refused(400, "Decryption failed: verify that 'name' refers to the correct CryptoKey.") from None
            return Answer(200, {"plaintext": b64encode(plain).decode(), "usedPrimary": True})
        except Refused as error:
            word = {400: "INVALID_ARGUMENT", 401: "UNAUTHENTICATED", 403: "PERMISSION_DENIED", 404: "NOT_FOUND"}
            content = {"code": error.status, "message": error.why, "status": word.get(error.status, "UNKNOWN")}
            return Answer(error.status, {"error": content})

    def check_token(self, header: str, *wanted: str, service: str = "https://cloudkms.googleapis.com/") -> None:
        """wanted: scopes, of which one will do, besides that for everything."""
        need(header.startswith("Bearer "), 401, "no bearer token")
        token = header.removeprefix("Bearer ")
        if token == self.token:
            return
        need(token.count(".") == 2, 401, "Request had invalid authentication credentials.")
        head, claims, signed, signature = jwt(token)
        need(head == {"alg": "RS256", "typ": "JWT", "kid": "0123"}, 401, f"header {head}")
        need(claims["iss"] == claims["sub"] == self.account["client_email"], 401, "another account")
        need(abs(claims["iat"] - time.time()) < 60 and claims["exp"] - claims["iat"] <= 3600, 401, "times")
        scopes = claims.get("scope", "").split()
        audience = claims.get("aud")
        need(
            not {"https://www.googleapis.com/auth/cloud-platform", *wanted}.isdisjoint(scopes) or audience == service,
            403,
            "neither scope nor audience",
        )
        try:
            self._rsa.public_key().verify(signature, signed, PKCS1v15(), SHA256())
        except InvalidSignature:
            raise Refused(401, "signature") from None

    def _exchange(self, seen: Seen) -> Answer:
        """A service account's assertion for a token, as Google's Go library wants it where it speaks REST."""
        form = dict(parse_qsl(seen.body.decode()))
        _, claims, signed, signature = jwt(form["assertion"])
        self._rsa.public_key().verify(signature, signed, PKCS1v15(), SHA256())
        if (
            form["grant_type"] != "urn:ietf:params:oauth:grant-type:jwt-bearer"
            or claims["aud"] != self.account["token_uri"]
        ):
            return Answer(400, {"error": "invalid_grant"})
        return Answer(200, {"access_token": self.token, "expires_in": 3599, "token_type": "Bearer"})

    def _metadata(self, seen: Seen) -> Answer:
        if seen.headers.get("metadata-flavor") != "Google":
            return Answer(403, {"error": "Missing Metadata-Flavor:Google header."})
        if seen.path.partition("?")[0] != "/computeMetadata/v1/instance/service-accounts/default/token":
            return Answer(404, {"error": seen.path}, Metadata_Flavor="Google")
        content = {"access_token": self.token, "expires_in": 3599, "token_type": "Bearer"}
        return Answer(200, content, Metadata_Flavor="Google")


class FakeStorage:
    """Cloud Storage, with one bucket. Objects arrive as the JSON API's objects.insert, by media or multipart upload."""

    bucket = "a-bucket_of.ours"

    def __init__(self, internet: Internet, google: FakeGoogle | None = None) -> None:
        """google: who lets in; None is an emulator on loopback, which lets in everybody."""
        self.objects: dict[str, bytes] = {}
        self._google = google
        internet.services["127.0.0.1" if google is None else "storage.googleapis.com"] = self._answer

    def _answer(self, seen: Seen) -> Answer:
        try:
            if self._google is not None:
                scope = "https://www.googleapis.com/auth/devstorage.read_write"
                service = "https://storage.googleapis.com/"
                self._google.check_token(seen.headers.get("authorization", ""), scope, service=service)
            path, _, query = seen.path.partition("?")
            need(seen.method == "POST" and path.startswith("/upload/storage/v1/b/"), 404, f"{seen.method} {path}")
            need(path == f"/upload/storage/v1/b/{self.bucket}/o", 404, "The specified bucket does not exist.")
            given = dict(parse_qsl(query, strict_parsing=True))
            how = given.pop("uploadType", "")
            need(how in ("media", "multipart"), 400, f"uploadType {how}")
            if how == "media":
                need("content-type" in seen.headers, 400, "no Content-Type")
                need(int(seen.headers.get("content-length", "-1")) == len(seen.body), 411, "no Content-Length")
                name, content = given["name"], seen.body
                need(set(given) == {"name"}, 400, f"parameters {sorted(given)}")
            else:
                described, content = parts_of(seen)
                name = json.loads(described)["name"]
            self.objects[name] = content
            digest = b64encode(hashlib.md5(content, usedforsecurity=False).digest()).decode()
            found = {"kind": "storage#object", "bucket": self.bucket, "name": name, "md5Hash": digest}
            return Answer(200, {**found, "size": str(len(content))}, Content_Type="application/json")
        except Refused as error:
            return Answer(error.status, {"error": {"code": error.status, "message": error.why}})


def parts_of(seen: Seen) -> list[bytes]:
    """The two contents of a multipart/related request."""
    message = message_from_bytes(f"Content-Type: {seen.headers['content-type']}\r\n\r\n".encode() + seen.body)
    need(message.get_content_type() == "multipart/related", 400, "no multipart/related")
    found = [part.get_payload(decode=True) for part in message.get_payload()]
    need(len(found) == 2, 400, f"{len(found)} parts")
    return found


class FakeAzure:
    """One application in Entra ID, one RSA key in a vault, one managed identity."""

    vault = "my-vault.vault.azure.net"
    tenant = "11111111-2222-3333-4444-555555555555"
    client = "66666666-7777-8888-9999-000000000000"
    secret = "s3cret~of.the-app"
    name, version = "sops-key", "b86c2e6ad9054f4abf69cc185b99aa60"
    federated = "a-token-of-kubernetes"
    token = "an-azure-token"

    def __init__(self, internet: Internet, certificate: Certificate | None = None) -> None:
        self._rsa: RSAPrivateKey = generate_private_key(65537, 2048)
        self._certificate = certificate
        internet.services["login.microsoftonline.com"] = self._login
        internet.services[self.vault] = self._vault
        internet.services["127.0.0.1"] = self._metadata
        self.metadata_host = f"127.0.0.1:{internet.port}"

    def _login(self, seen: Seen) -> Answer:
        base = "https://login.microsoftonline.com"
        if seen.path.startswith("/common/discovery/instance?"):  # Microsoft's libraries ask, we do not
            known = {"preferred_network": base[8:], "preferred_cache": base[8:], "aliases": [base[8:]]}
            discovery = f"{base}/{self.tenant}/v2.0/.well-known/openid-configuration"
            return Answer(200, {"tenant_discovery_endpoint": discovery, "metadata": [known]})
        if seen.path.rstrip("?") == f"/{self.tenant}/v2.0/.well-known/openid-configuration":
            place = f"{base}/{self.tenant}/oauth2/v2.0"
            return Answer(
                200,
                {
                    "token_endpoint": f"{place}/token",
                    "authorization_endpoint": f"{place}/authorize",
                    "issuer": f"{base}/{self.tenant}/v2.0",
                },
            )
        try:
            need((seen.method, seen.path) == ("POST", f"/{self.tenant}/oauth2/v2.0/token"), 404, seen.path)
            need(seen.headers["content-type"].startswith("application/x-www-form-urlencoded"), 400, "no form")
            form = dict(parse_qsl(seen.body.decode(), strict_parsing=True))
            need(form.get("client_id") == self.client, 400, "AADSTS700016: Application was not found.")
            need(form.get("grant_type") == "client_credentials", 400, "AADSTS70003: grant type")
            need("https://vault.azure.net/.default" in form.get("scope", "").split(), 400, "AADSTS70011: scope")
            if "client_secret" in form:
                need(form["client_secret"] == self.secret, 401, "AADSTS7000215: Invalid client secret provided.")
            else:
                kind = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
                need(form.get("client_assertion_type") == kind, 400, "AADSTS900144: assertion type")
                self._check_assertion(form["client_assertion"])
        except Refused as error:
            return Answer(error.status, {"error": "invalid_client", "error_description": f"{error.why}\r\nTrace ID: 0"})
        return Answer(200, {"token_type": "Bearer", "expires_in": 3599, "access_token": self.token})

    def _check_assertion(self, assertion: str) -> None:
        if assertion == self.federated:
            return
        need(self._certificate is not None, 401, "AADSTS700027: no certificate")
        assert self._certificate is not None
        head, claims, signed, signature = jwt(assertion)
        need((head["alg"], head["typ"]) == ("PS256", "JWT"), 401, "AADSTS5002723: algorithm")
        print_ = self._certificate.fingerprint(SHA256())
        need(
            head["x5t#S256"].rstrip("=") in (url64(print_), b64encode(print_).decode().rstrip("=")), 401, "AADSTS700027"
        )
        audience = f"https://login.microsoftonline.com/{self.tenant}/oauth2/v2.0/token"
        need(claims["aud"] == audience, 401, "AADSTS700023: audience")
        need(claims["iss"] == claims["sub"] == self.client and claims["jti"], 401, "AADSTS700021: issuer")
        need(claims["nbf"] - 60 < time.time() < claims["exp"] <= time.time() + 3600, 401, "AADSTS700024: times")
        public = self._certificate.public_key()
        try:
            public.verify(signature, signed, PSS(MGF1(SHA256()), 32), SHA256())  # type: ignore[call-arg, arg-type, union-attr]
        except InvalidSignature:
            raise Refused(401, "AADSTS700027: signature") from None

    def _vault(self, seen: Seen) -> Answer:
        if "authorization" not in seen.headers:
            challenge = f'Bearer authorization="https://login.microsoftonline.com/{self.tenant}"'
            challenge += ', resource="https://vault.azure.net"'
            return Answer(401, {"error": {"code": "Unauthorized", "message": "no token"}}, WWW_Authenticate=challenge)
        try:
            need(seen.headers["authorization"] == f"Bearer {self.token}", 401, "AKV10032: Invalid issuer.")
            parts = urlsplit(seen.path)
            need(dict(parse_qsl(parts.query)).get("api-version"), 400, "api-version")
            kid = f"https://{self.vault}/keys/{self.name}/{self.version}"
            if seen.method == "GET" and parts.path.rstrip("/") == f"/keys/{self.name}":
                return Answer(200, {"key": {"kid": kid, "kty": "RSA", "key_ops": ["encrypt", "decrypt"]}})
            found = re.fullmatch(rf"/keys/{self.name}/({self.version})?/(encrypt|decrypt)", parts.path)
            need(
                found and seen.method == "POST",
                404,
                f"A key with (name/id) {parts.path} was not found in this key vault.",
            )
            assert found is not None
            need(seen.headers.get("content-type", "").startswith("application/json"), 415, "no JSON")
            body = seen.json()
            need(set(body) == {"alg", "value"} and body["alg"] == "RSA-OAEP-256", 400, f"fields {sorted(body)}")
            data = unpadded(body["value"])
            padding = OAEP(MGF1(SHA256()), SHA256(), None)
            try:
                if found[2] == "encrypt":
                    result = self._rsa.public_key().encrypt(data, padding)
                else:
                    result = self._rsa.decrypt(data, padding)
            except ValueError:
                raise Refused(400, "The parameter is incorrect.") from None
        except Refused as error:
            code = {400: "BadParameter", 401: "Unauthorized", 404: "KeyNotFound"}.get(error.status, "Other")
            return Answer(error.status, {"error": {"code": code, "message": error.why}})
        return Answer(200, {"kid": kid, "value": url64(result)})

    def _metadata(self, seen: Seen) -> Answer:
        parts = urlsplit(seen.path)
        query = dict(parse_qsl(parts.query))
        imds = parts.path == "/metadata/identity/oauth2/token" and seen.headers.get("metadata") == "true"
        app_service = parts.path == "/msi/token" and seen.headers.get("x-identity-header") == "a-header"
        versions = {"/metadata/identity/oauth2/token": "2018-02-01", "/msi/token": "2019-08-01"}
        if not (imds or app_service) or query.get("api-version") != versions[parts.path]:
            return Answer(400, {"error": "invalid_request", "error_description": f"not like that: {seen.path}"})
        if query.get("client_id", self.client) != self.client or query.get("resource") != "https://vault.azure.net":
            return Answer(400, {"error": "invalid_request", "error_description": "Identity not found"})
        return Answer(200, {"access_token": self.token, "expires_on": "4102444800", "token_type": "Bearer"})


class FakeHuawei:
    """One key, one project, one access key; every signature is computed anew from what came over the wire."""

    region, uuid = "tr-west-1", "0d0466b0-e727-4d9c-b35d-f84bb474a37f"
    project = "0123456789abcdef0123456789abcdef"
    access, secret = "AK0", "s3cret-of-huawei"

    def __init__(self, internet: Internet) -> None:
        self._aes = AESGCM(AESGCM.generate_key(256))
        for service in ("kms", "iam"):
            internet.services[f"{service}.{self.region}.myhuaweicloud.com"] = self._answer
        internet.services["127.0.0.1"] = self._answer
        self.endpoint = f"http://127.0.0.1:{internet.port}"

    def _answer(self, seen: Seen) -> Answer:
        try:
            self._check_signature(seen)
            if seen.host.startswith("iam."):
                need(seen.path == f"/v3/projects?name={self.region}", 404, seen.path)
                return Answer(200, {"projects": [{"id": self.project, "name": self.region}]})
            found = re.fullmatch(rf"/v1\.0/{self.project}/kms/(encrypt|decrypt)-data", seen.path)
            need(found and seen.method == "POST", 404, seen.path)
            assert found is not None
            need(seen.headers.get("x-project-id") == self.project, 400, "X-Project-Id")
            body = seen.json()
            name = {"encrypt": "plain_text", "decrypt": "cipher_text"}[found[1]]
            need(set(body) == {"key_id", "encryption_algorithm", name}, 400, f"fields {sorted(body)}")
            need((body["key_id"], body["encryption_algorithm"]) == (self.uuid, "SYMMETRIC_DEFAULT"), 404, "key")
            if found[1] == "encrypt":
                nonce = os.urandom(12)
                wrapped = nonce + self._aes.encrypt(nonce, body[name].encode(), None)
                return Answer(200, {"key_id": self.uuid, "cipher_text": b64encode(wrapped).decode()})
            data = b64decode(body[name], validate=True)
            try:
                return Answer(
                    200, {"key_id": self.uuid, "plain_text": self._aes.decrypt(data[:12], data[12:], None).decode()}
                )
            except (InvalidTag, ValueError):
                raise Refused(400, "Failed to decrypt.") from None
        except Refused as error:
            return Answer(error.status, {"error": {"error_code": "KMS.0000", "error_msg": error.why}})

    def _check_signature(self, seen: Seen) -> None:
        pattern = r"SDK-HMAC-SHA256 Access=(\S+), SignedHeaders=(\S+), Signature=([0-9a-f]{64})"
        found = re.fullmatch(pattern, seen.headers.get("authorization", ""))
        need(found, 401, "no signature")
        assert found is not None
        names = found[2].split(";")
        need(names == sorted(names) and "x-sdk-date" in names, 401, f"signed headers {names}")
        path, _, query = seen.path.partition("?")
        headers = "".join(f"{name}:{seen.headers[name].strip()}\n" for name in names)
        content = hashlib.sha256(seen.body).hexdigest()
        canonical = f"{seen.method}\n{path}/\n{query}\n{headers}\n{found[2]}\n{content}"
        text = f"SDK-HMAC-SHA256\n{seen.headers['x-sdk-date']}\n{hashlib.sha256(canonical.encode()).hexdigest()}"
        wanted = hmac.new(self.secret.encode(), text.encode(), hashlib.sha256).hexdigest()
        need(found[1] == self.access and found[3] == wanted, 401, "verify aksk signature fail")
