"""A real S3 server for tests: ministack in its own process on a free loopback port, which checks every signature."""

import json
import os
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from hub_process import PATIENCE, free_port

BUCKET = "commons"
POLICY = {"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": "s3:*", "Resource": "*"}]}


@dataclass(frozen=True)
class S3Server:
    """A running server with one bucket; `environment` holds the keys of a user who may do anything in it."""

    endpoint: str
    environment: dict[str, str]

    def url(self, prefix: str = "") -> str:
        """What `--objects` wants."""
        return f"s3://{BUCKET}/{prefix}?endpoint={self.endpoint}&region=us-east-1"


@contextmanager
def start_s3(directory: Path) -> Iterator[S3Server]:
    """A server that keeps its log in `directory` and its data in memory."""
    port = free_port()
    endpoint = f"http://127.0.0.1:{port}"
    environment = os.environ | {
        "GATEWAY_PORT": str(port),
        "BIND_HOST": "127.0.0.1",
        "MINISTACK_HOST": "127.0.0.1",
        "SERVICES": "s3,iam,sts",
        "IOT_MTLS_ENABLED": "0",
        "AUTH": "true",
    }
    with (directory / "s3.log").open("wb") as log:
        process = subprocess.Popen([sys.executable, "-m", "ministack"], env=environment, stdout=log, stderr=log)
    try:
        deadline = time.monotonic() + PATIENCE
        while not _answers(endpoint):
            if process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"the S3 server did not start:\n{(directory / 's3.log').read_text()[-2000:]}")
            time.sleep(0.05)
        yield S3Server(endpoint, _user(endpoint))
    finally:
        process.terminate()
        process.wait(PATIENCE)


def _answers(endpoint: str) -> bool:
    try:
        with urllib.request.urlopen(f"{endpoint}/_ministack/health", timeout=5):
            return True
    except (OSError, urllib.error.URLError):
        return False


def _user(endpoint: str) -> dict[str, str]:
    """The keys of a new user: the server's own root keys pass with any signature."""
    import boto3

    root = {"endpoint_url": endpoint, "region_name": "us-east-1"}
    root |= {"aws_access_key_id": "test", "aws_secret_access_key": "test"}
    boto3.client("s3", **root).create_bucket(Bucket=BUCKET)
    iam = boto3.client("iam", **root)
    iam.create_user(UserName="hub")
    iam.put_user_policy(UserName="hub", PolicyName="all", PolicyDocument=json.dumps(POLICY))
    key = iam.create_access_key(UserName="hub")["AccessKey"]
    return {"AWS_ACCESS_KEY_ID": key["AccessKeyId"], "AWS_SECRET_ACCESS_KEY": key["SecretAccessKey"]}
