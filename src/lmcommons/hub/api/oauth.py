"""Chapter 2, `hf auth login`: a program asks for codes, waits until its user approves, and renews its token.

Sources: RFC 8628 (device authorisation), RFC 6749 (errors, chapter 5.2; renewal, chapter 6).
"""

from typing import Any
from urllib.parse import parse_qsl

from fastapi import APIRouter, Request, Response
from fastapi.responses import JSONResponse
from starlette.concurrency import run_in_threadpool

from lmcommons.hub.accounts.devices import INTERVAL, LIFE
from lmcommons.hub.accounts.issuing import TokenPair
from lmcommons.hub.api.dependencies import address_of, hub_of, read_body
from lmcommons.hub.errors import BadRequest

FORM_LIMIT = 16 << 10  # bytes
DEVICE_CODE = "urn:ietf:params:oauth:grant-type:device_code"
NOT_STORED = {"Cache-Control": "no-store"}

router = APIRouter(prefix="/oauth")


@router.post("/device")
def device(request: Request) -> Response:
    """Codes for a program that wants to sign in, and where its user enters one of them."""
    hub = hub_of(request)
    hub.limits.take_sign_in(address_of(request))
    codes = hub.device_logins.begin()
    page = f"{hub.settings.public_url}/oauth/device"
    answer = {
        "device_code": codes.device,
        "user_code": codes.user,
        "verification_uri": page,
        "verification_uri_complete": f"{page}?user_code={codes.user}",
        "expires_in": int(LIFE.total_seconds()),
        "interval": int(INTERVAL.total_seconds()),
    }
    return JSONResponse(answer, headers=NOT_STORED)


@router.post("/token")
async def token(request: Request) -> Response:
    """A token, in exchange for an approved device code or for the secret that renews one."""
    try:
        form = dict(parse_qsl((await read_body(request, FORM_LIMIT)).decode(), max_num_fields=20))
    except ValueError as error:
        raise BadRequest("Expected a form of at most 20 fields") from error
    return await run_in_threadpool(_exchange, request, form)


def _exchange(request: Request, form: dict[str, str]) -> Response:
    hub = hub_of(request)
    grant = form.get("grant_type")
    if grant == DEVICE_CODE:
        found: TokenPair | str = hub.device_logins.redeem(form.get("device_code", ""))
    elif grant == "refresh_token":
        found = hub.tokens.renew(form.get("refresh_token", "")) or "invalid_grant"
    else:
        found = "unsupported_grant_type"
    return _refused(found) if isinstance(found, str) else _issued(found)


def _issued(pair: TokenPair) -> Response:
    answer: dict[str, Any] = {
        "access_token": pair.access,
        "refresh_token": pair.refresh,
        "expires_in": pair.seconds,
        "token_type": "bearer",
    }
    return JSONResponse(answer, headers=NOT_STORED)


def _refused(error: str) -> Response:
    return JSONResponse({"error": error, "error_description": DESCRIPTIONS[error]}, 400, headers=NOT_STORED)


DESCRIPTIONS = {
    "authorization_pending": "The user has not approved the code yet",
    "slow_down": f"Ask every {INTERVAL.seconds} seconds at most",
    "expired_token": "The code is not known, used or too old",
    "access_denied": "The user refused",
    "invalid_grant": "The refresh token is not known, used or too old",
    "unsupported_grant_type": f"grant_type is {DEVICE_CODE} or refresh_token",
}
