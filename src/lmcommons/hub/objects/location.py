"""Where an S3 bucket is, and addresses that it honours: one kind of request, for a time, from whoever has them.

Source: https://docs.aws.amazon.com/AmazonS3/latest/API/sigv4-query-string-auth.html
"""

import hashlib
import hmac
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from urllib.parse import parse_qsl, quote, urlsplit

from lmcommons.errors import RequestError

KEYS = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY")


@dataclass(frozen=True)
class Location:
    """`s3://bucket/prefix?endpoint=https://…&region=…`, and the keys, which only the environment gives."""

    bucket: str
    prefix: str  # empty, or ends with a slash
    endpoint: str
    region: str
    key_id: str = field(repr=False)
    secret: str = field(repr=False)
    session_token: str | None = field(repr=False, default=None)

    @classmethod
    def parse(cls, url: str, environment: Mapping[str, str] = os.environ) -> "Location":
        """Read a location.

        Raises:
            RequestError: it is malformed, or the environment has no keys.
        """
        parts = urlsplit(url)
        options = dict(parse_qsl(parts.query, keep_blank_values=True))
        if unknown := options.keys() - {"endpoint", "region"}:
            raise RequestError(f"--objects {url}: unknown option {min(unknown)!r}; there are endpoint and region")
        if not re.fullmatch(r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]", parts.netloc):
            raise RequestError(f"--objects {url}: write s3://BUCKET/PREFIX?endpoint=https://HOST&region=REGION")
        region = options.get("region") or environment.get("AWS_REGION") or "us-east-1"
        endpoint = (options.get("endpoint") or f"https://s3.{region}.amazonaws.com").rstrip("/")
        if urlsplit(endpoint).scheme not in ("http", "https") or not urlsplit(endpoint).netloc:
            raise RequestError(f"--objects {url}: endpoint {endpoint!r} is not an address like https://s3.example.org")
        if missing := [name for name in KEYS if not environment.get(name)]:
            raise RequestError(f"--objects {url}: set {' and '.join(missing)} in the environment")
        prefix = parts.path.strip("/")
        return cls(
            bucket=parts.netloc,
            prefix=prefix and f"{prefix}/",
            endpoint=endpoint,
            region=region,
            key_id=environment[KEYS[0]],
            secret=environment[KEYS[1]],
            session_token=environment.get("AWS_SESSION_TOKEN"),
        )

    def address(
        self,
        method: str,
        key: str = "",
        *,
        seconds: int,
        query: Mapping[str, str] | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> str:
        """An address for one kind of request, good for `seconds`; with `headers`, only together with these."""
        now = datetime.now(UTC).strftime("%Y%m%dT%H%M%SZ")
        scope = f"{now[:8]}/{self.region}/s3/aws4_request"
        endpoint = urlsplit(self.endpoint)
        signed = {"host": endpoint.netloc, **{name.lower(): value for name, value in (headers or {}).items()}}
        names = ";".join(sorted(signed))
        parameters = {
            "X-Amz-Algorithm": "AWS4-HMAC-SHA256",
            "X-Amz-Credential": f"{self.key_id}/{scope}",
            "X-Amz-Date": now,
            "X-Amz-Expires": str(seconds),
            "X-Amz-SignedHeaders": names,
            **({"X-Amz-Security-Token": self.session_token} if self.session_token else {}),
            **(query or {}),
        }
        path = quote(f"{endpoint.path}/{self.bucket}" + (f"/{self.prefix}{key}" if key else ""), safe="/~")
        text = "&".join(
            sorted(f"{quote(name, safe='~')}={quote(value, safe='~')}" for name, value in parameters.items())
        )
        lines = "".join(f"{name}:{signed[name]}\n" for name in sorted(signed))
        request = "\n".join((method, path, text, lines, names, "UNSIGNED-PAYLOAD"))
        to_sign = "\n".join(("AWS4-HMAC-SHA256", now, scope, hashlib.sha256(request.encode()).hexdigest()))
        secret = f"AWS4{self.secret}".encode()
        for step in scope.split("/"):
            secret = hmac.digest(secret, step.encode(), "sha256")
        signature = hmac.digest(secret, to_sign.encode(), "sha256").hex()
        return f"{endpoint.scheme}://{endpoint.netloc}{path}?{text}&X-Amz-Signature={signature}"
