#!/usr/bin/python3 -I
"""Asks the cloud for what a HyperCache node needs, with this machine's identity.

    cloud program FILE         the node program, into FILE
    cloud gossip-key FILE      the key that encrypts gossip, as the node's environment, into FILE
    cloud cluster-secret FILE  the secret that authenticates nodes to each other, into FILE
    cloud password FILE        the passwords of clients, one on a line, into FILE
    cloud metric               reports how full the data disk is

What differs between machines comes in the environment. Python and its standard library, because cloud-init brings them to every
image, and curl it does not. No credential leaves this process except in a request to the service that it is for.

Exit status 78: only a person can mend it. 1: a later attempt may succeed.
"""
import base64
import datetime
import hashlib
import hmac
import json
import os
import re
import sys
import time
import urllib.error
import urllib.parse
import urllib.request

ENV = os.environ
IMDS = ENV.get("HC_IMDS", "http://169.254.169.254")
HOME = ENV.get("HC_HOME", "/opt/hypercache")
AWS = ENV.get("HC_CLOUD") == "aws"
MOST = 1 << 30  # bytes of a program


class Later(Exception):
    """May go away by itself."""


class Never(Exception):
    """Will not go away by itself."""


class Stay(urllib.request.HTTPRedirectHandler):
    """Follows no redirect: a credential is for the host that was asked."""

    def redirect_request(self, *_):
        return None


def reason(e):
    """An HTTP error's code alone. Some services answer with the request, credentials included."""
    body = e.read(1 << 14).decode(errors="replace")
    code = re.search(r'<Code>(\w+)</Code>|"(?:__type|code|error)"\s*:\s*"([\w.#:/-]+)"', body)
    return "%d %s" % (e.code, (code.group(1) or code.group(2)) if code else e.reason)


def ask(url, headers=None, data=None, method=None, handlers=(Stay,)):
    """Sends a request and returns the open response."""
    request = urllib.request.Request(url, data=data, headers=headers or {}, method=method)
    return urllib.request.build_opener(*handlers).open(request, timeout=20)


def text(*args, **kwargs):
    with ask(*args, **kwargs) as r:
        return r.read(1 << 18).decode()


def imds(path, headers, method=None):
    # No proxy reaches a link-local address.
    return text(IMDS + path, headers, method=method, handlers=(Stay, urllib.request.ProxyHandler({})))


def keep_trying(what, action, hint="", final=(), bound=float(ENV.get("HC_WAIT", "600"))):
    """Runs action until it succeeds, for as long as is reasonable: roles, routes and endpoints of a new machine take minutes.
    HTTP answers in final are not asked for again. hint says what would be right after a refusal."""
    end = time.monotonic() + bound
    pause, last = bound / 600, None
    while True:
        try:
            return action()
        except urllib.error.HTTPError as e:
            now = reason(e)
            if hint and e.code in (400, 401, 403, 404):
                now += " (" + hint + ")"
            if e.code in final:
                raise Never("%s: %s" % (what, now))
        except (OSError, ValueError, KeyError, Later, urllib.error.URLError) as e:
            now = str(getattr(e, "reason", None) or e) or type(e).__name__
        except Exception as e:  # http.client's, when a connection breaks
            if type(e).__module__ != "http.client":
                raise
            now = "connection broke: " + type(e).__name__
        if time.monotonic() + pause >= end:
            raise Later("%s: %s; gave up after %d seconds" % (what, now, bound))
        if now != last:
            print("%s: %s; trying again" % (what, now), flush=True)
        last = now
        time.sleep(pause)
        pause = min(2 * pause, bound / 40)


def sign(method, url, headers, body, service, region, keys, now):
    """The headers of a request to AWS, signed with Signature Version 4. headers are signed with it."""
    u = urllib.parse.urlsplit(url)
    stamp = now.strftime("%Y%m%dT%H%M%SZ")
    digest = hashlib.sha256(body or b"").hexdigest()
    signed = {k.lower(): v for k, v in headers.items()}
    signed.update({"host": u.netloc, "x-amz-date": stamp, "x-amz-content-sha256": digest})
    if keys.get("Token"):
        signed["x-amz-security-token"] = keys["Token"]
    names = sorted(signed)
    query = sorted(urllib.parse.parse_qsl(u.query, keep_blank_values=True))
    canonical = "\n".join(
        [method, u.path or "/", urllib.parse.urlencode(query, quote_via=urllib.parse.quote, safe="-_.~")]
        + [n + ":" + " ".join(signed[n].split()) for n in names]
        + ["", ";".join(names), digest]
    )
    scope = "/".join([stamp[:8], region, service, "aws4_request"])
    string = "\n".join(["AWS4-HMAC-SHA256", stamp, scope, hashlib.sha256(canonical.encode()).hexdigest()])
    key = ("AWS4" + keys["SecretAccessKey"]).encode()
    for part in scope.split("/"):
        key = hmac.new(key, part.encode(), hashlib.sha256).digest()
    signature = hmac.new(key, string.encode(), hashlib.sha256).hexdigest()
    del signed["host"]  # urllib sends the same
    signed["authorization"] = "AWS4-HMAC-SHA256 Credential=%s/%s,SignedHeaders=%s,Signature=%s" % (
        keys["AccessKeyId"], scope, ";".join(names), signature)
    return signed


def role_keys():
    """The credentials of this machine's role."""
    token = imds("/latest/api/token", {"X-aws-ec2-metadata-token-ttl-seconds": "300"}, "PUT")
    head, at = {"X-aws-ec2-metadata-token": token}, "/latest/meta-data/iam/security-credentials/"
    role = imds(at, head).split()
    if not role:
        raise Later("this machine has no role")
    keys = json.loads(imds(at + role[0], head))
    if keys.get("Code") != "Success":
        raise Later("this machine's role has no credentials: %s" % keys.get("Code"))
    return keys


def signed(url, service, headers=None, data=None):
    now = datetime.datetime.now(datetime.timezone.utc)
    method = "GET" if data is None else "POST"
    return sign(method, url, headers or {}, data, service, ENV["HC_REGION"], role_keys(), now)


def bearer(resource, **headers):
    """Headers with a token of this machine's identity for a resource."""
    path = "/metadata/identity/oauth2/token?api-version=2018-02-01&resource=" + urllib.parse.quote(resource, safe="")
    token = json.loads(imds(path, {"Metadata": "true"}))["access_token"]
    return {"Authorization": "Bearer " + token, **{k.replace("_", "-"): v for k, v in headers.items()}}


def aws_url(service):
    """A service's address in this region; HC_ENDPOINT stands in for all."""
    suffix = ".amazonaws.com.cn" if ENV["HC_REGION"].startswith("cn-") else ".amazonaws.com"
    return ENV.get("HC_ENDPOINT", "https://" + service + "." + ENV["HC_REGION"] + suffix) + "/"


def program(file):
    url = ENV["HC_BINARY_URL"]
    with_identity = ENV["HC_BINARY_SIGNED"] == "yes"

    def download():
        if not with_identity:
            response = ask(url, handlers=())
        elif AWS:
            response = ask(url, signed(url, "s3"))
        else:
            response = ask(url, bearer("https://storage.azure.com/", x_ms_version="2020-10-02"))
        # A slow peer could send a byte now and then for ever.
        end = time.monotonic() + float(ENV.get("HC_WAIT", "600"))
        with response, open(file, "wb") as out:
            for block in iter(lambda: response.read(1 << 16), b""):
                out.write(block)
                if out.tell() > MOST:
                    raise Never("program: %s is larger than %d bytes" % (url, MOST))
                if time.monotonic() > end:
                    raise Later("too slow: %d bytes so far" % out.tell())
            length = response.headers.get("Content-Length")
            if length and out.tell() != int(length):
                raise Later("connection broke after %d of %s bytes" % (out.tell(), length))

    if with_identity:
        hint = "the machine's identity must be allowed to read it; a new permission takes minutes"
        keep_trying("program: " + url, download, hint)
    else:
        keep_trying("program: " + url, download, "binaryUrl must be readable by everybody here", (400, 401, 403, 404, 410))


def secret(name):
    """The text of a secret."""
    def aws():
        url, body = aws_url("secretsmanager"), json.dumps({"SecretId": name}).encode()
        headers = {"Content-Type": "application/x-amz-json-1.1", "X-Amz-Target": "secretsmanager.GetSecretValue"}
        answer = json.loads(text(url, signed(url, "secretsmanager", headers, body), body))
        return answer["SecretString"] if "SecretString" in answer else base64.b64decode(answer["SecretBinary"]).decode()

    def azure():
        # NAME.vault.azure.net takes tokens for vault.azure.net, and other clouds' vaults likewise.
        vault = urllib.parse.urlsplit(name).hostname.split(".", 1)[1]
        headers = bearer(ENV.get("HC_VAULT", "https://" + vault))
        return json.loads(text(name + "?api-version=7.4", headers))["value"]

    hint = "the machine's identity must be allowed to read it; a new permission takes minutes"
    return keep_trying("secrets: " + name, aws if AWS else azure, hint).strip()


def write(file, content):
    with open(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as out:
        os.fchmod(out.fileno(), 0o600)
        out.write(content)


def gossip_key(file):
    name = ENV["HC_GOSSIP_KEY"]
    key = secret(name)
    try:
        good = len(base64.b64decode(key, validate=True)) in (16, 24, 32)
    except ValueError:
        good = False
    if not good:
        raise Never("secrets: %s is not the base64 of 16, 24 or 32 bytes; `hypercache keygen` makes one" % name)
    lines = ["HYPERCACHE_CLUSTER_GOSSIP_ENCRYPT_KEY=" + key, "HYPERCACHE_CLUSTER_SECRET_FILE=%s/configs/cluster.secret" % HOME]
    if ENV.get("HC_PASSWORD"):
        lines.append("HYPERCACHE_AUTH_PASSWORD_FILE=%s/configs/password" % HOME)
    write(file, "\n".join(lines) + "\n")


def cluster_secret(file):
    name = ENV["HC_CLUSTER_SECRET"]
    value = secret(name)
    if len(value.encode()) < 16:
        raise Never("secrets: %s has less than 16 bytes; `hypercache keygen` makes one" % name)
    write(file, value + "\n")


def password(file):
    name = ENV["HC_PASSWORD"]
    lines = [line.strip() for line in secret(name).splitlines() if line.strip()]
    if not lines or any(len(line.encode()) < 8 for line in lines):
        raise Never("secrets: %s is not passwords of at least 8 bytes, one on a line" % name)
    write(file, "\n".join(lines) + "\n")


def used(directory):
    """How full the file system is, in percent of what the node can have, as df prints it."""
    if ENV["HC_DATA_DEVICES"] and os.stat(directory).st_dev == os.stat(os.path.dirname(directory)).st_dev:
        raise Later("metric: no data disk is mounted at %s; see journalctl -u hypercache-setup" % directory)
    s = os.statvfs(directory)
    taken = s.f_blocks - s.f_bfree
    return round(100 * taken / max(1, taken + s.f_bavail), 2)


def metric():
    percent, name, namespace, node = used(HOME + "/data"), ENV["HC_METRIC"], ENV["HC_METRIC_NAMESPACE"], ENV["HC_METRIC_NODE"]

    def aws():
        member, url = "MetricData.member.1.", aws_url("monitoring")
        body = urllib.parse.urlencode({
            "Action": "PutMetricData", "Version": "2010-08-01", "Namespace": namespace, member + "MetricName": name,
            member + "Dimensions.member.1.Name": "Node", member + "Dimensions.member.1.Value": node,
            member + "Unit": "Percent", member + "Value": percent}).encode()
        headers = {"Content-Type": "application/x-www-form-urlencoded; charset=utf-8"}
        text(url, signed(url, "monitoring", headers, body), body)

    def azure():
        series = {"dimValues": [node], "min": percent, "max": percent, "sum": percent, "count": 1}
        body = json.dumps({
            "time": datetime.datetime.now(datetime.timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ"),
            "data": {"baseData": {"metric": name, "namespace": namespace, "dimNames": ["Node"], "series": [series]}}}).encode()
        at = ENV.get("HC_ENDPOINT", "https://%s.monitoring.azure.com" % ENV["HC_REGION"])
        text(at + ENV["HC_METRIC_RESOURCE"] + "/metrics", bearer("https://monitoring.azure.com/", Content_Type="application/json"), body)

    hint = "the machine's identity must be allowed to publish metrics"
    keep_trying("metric", aws if AWS else azure, hint, bound=min(60, float(ENV.get("HC_WAIT", "600"))))


def main(verb="", *args):
    verbs = {"program": (program, 1), "gossip-key": (gossip_key, 1), "cluster-secret": (cluster_secret, 1), "password": (password, 1),
             "metric": (metric, 0)}
    action, want = verbs.get(verb, (None, 0))
    if action is None or len(args) != want:
        sys.exit(__doc__)
    try:
        action(*args)
    except (Later, Never) as e:
        print("FAILED:", e, file=sys.stderr)
        sys.exit(78 if isinstance(e, Never) else 1)


if __name__ == "__main__":
    main(*sys.argv[1:])
