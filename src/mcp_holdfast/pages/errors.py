"""What people are told when a sign-in goes wrong: what happened, in plain words, and what to do next.

No page repeats what its link says, since anyone can make a link. The log has it, under the reference of the page.
"""

import secrets
from dataclasses import dataclass, replace
from typing import Self

CONNECT_AGAIN = "Go back to your application and connect again. It will open a new page."
ADD_AGAIN = "Go back to your application, remove this server there and add it again. It then registers anew."
CLOSE_WHAT_OTHERS_SENT = (
    "If you did not start this yourself, or somebody sent you the link, close this page: they would get access in"
    " your name."
)


@dataclass(frozen=True)
class ErrorPage:
    """The heading, what happened, and what to do: the steps to try, the most likely one first."""

    title: str
    happened: str
    steps: tuple[str, ...] = (CONNECT_AGAIN,)

    def after(self, seconds: int) -> Self:
        """The same with the time to wait as its first step."""
        return replace(self, steps=(f"Wait {seconds} second{'s' if seconds != 1 else ''}.", *self.steps))


LATER = ErrorPage(
    "The server cannot reach what it needs right now",
    "Nothing is lost, and nothing is wrong with your application.",
    (
        "Wait a moment and reload this page. If your browser asks whether to send the form again, agree.",
        "If that does not help, go back to your application and connect again.",
    ),
)
FAILED = ErrorPage(
    "Something went wrong on the server", "That is not your fault. The sign-in was not finished; no access was given."
)
BUSY = ErrorPage("Too many sign-ins are being started", "The server takes only so many a minute. Nothing is lost.")
TOO_LONG = ErrorPage(
    "The request is too long", "More was sent than a sign-in needs, so the server did not read it. No access was given."
)
INCOMPLETE = ErrorPage(
    "This sign-in link is not complete",
    "Something is missing from the link, or it was changed on its way. No access was given.",
)
UNKNOWN_APPLICATION = ErrorPage(
    "This application is not known here",
    "The application that opened this page is not registered at this server, or no longer. No access was given.",
    (ADD_AGAIN, "Some applications forget a registration only when they are restarted."),
)
WRONG_RETURN_ADDRESS = ErrorPage(
    "This link leads to an address that is not allowed",
    "It would have sent you on to an address that the application did not register, or that this server does not"
    " allow. No access was given.",
    (CLOSE_WHAT_OTHERS_SENT, ADD_AGAIN),
)
EXPIRED = ErrorPage(
    "This sign-in has expired",
    "It took too long, was opened once more since, or was finished already. It cannot be used any more.",
)
OTHER_BROWSER = ErrorPage(
    "This sign-in was begun in another browser",
    "This browser lacks the cookie with which it began. That happens in another browser, profile or private window,"
    " and where cookies are blocked. No access was given.",
    (
        CLOSE_WHAT_OTHERS_SENT,
        "Otherwise go back to your application, connect again, and stay in the browser that it opens.",
        "If that does not help, allow this site to keep cookies.",
    ),
)
DENIED = ErrorPage(
    "Access was denied",
    "The identity provider says that you, or its rules, denied it. No access was given.",
    ("If that was a mistake, go back to your application and connect again.",),
)
PROVIDER_REFUSED = ErrorPage(
    "The identity provider did not confirm the sign-in",
    "It answered with an error. No access was given.",
)
ANOTHER_ACCOUNT = (
    "If you have another account, sign out at the identity provider, go back to your application and connect again."
)
NOT_ALLOWED = ErrorPage(
    "This account may not use this server",
    "You are signed in at the identity provider, but this server lets in only some people, and you are not among them."
    " No access was given.",
    ("Ask who runs this server to let you in, and tell them the reference below.", ANOTHER_ACCOUNT),
)
NOT_TOLD = ErrorPage(
    "This server cannot tell whether you may use it",
    "You are signed in at the identity provider, but it did not say enough about you, such as a verified address or"
    " your groups. No access was given.",
    ("Tell who runs this server, with the reference below: the log says what is missing.", ANOTHER_ACCOUNT),
)


def new_reference() -> str:
    """A name for one page that was shown, short enough to be read out."""
    return secrets.token_hex(4)
