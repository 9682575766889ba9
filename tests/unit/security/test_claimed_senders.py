"""Which headers say who sends: by a rule, which takes what proxies, browsers, tracers and clients ordinarily add for nothing of the kind."""

import pytest

from federation.security.claimed_senders import claims_sender

CLAIMING = """
    x-agent X-Agent-Id x-agent-name agent AGENT_ID federation-agent x-federation-actor x-actor x-sender Sender
    x-sender-id x-caller x-user user x-user-id x-userid x-username x-user-name x-user-email x-forwarded-user
    x-forwarded-preferred-username x-remote-user remote-user x-auth-request-user x-auth-request-preferred-username
    x-authenticated-user x-authenticated-userid x-webauth-user x-goog-authenticated-user-email
    x-goog-authenticated-user-id cf-access-authenticated-user-email tailscale-user-login tailscale-user-name
    x-ms-client-principal x-ms-client-principal-name x-ms-client-principal-id x-amzn-oidc-identity x-consumer-username
    x-authentik-username impersonate-user x-impersonate x-on-behalf-of on_behalf_of x-act-as run-as x-author x-from
    x-identity x.agent x-forwarded-email X-Remote-Login x-remote-email forwarded-login
    X-Auth-Request-Email x-auth-request-login X-Token-Owner x-owner owner-id
"""
ORDINARY = """
    accept accept-encoding accept-language authorization baggage cache-control cdn-loop cf-connecting-ip cf-ipcountry
    cf-ray cf-visitor connection content-length content-type cookie correlation-id destination dnt expires
    fastly-client-ip forwarded from host idempotency-key last-event-id mcp-method mcp-name mcp-protocol-version
    mcp-session-id message-id origin persistent pragma priority proxy-authorization redelivered referer sec-ch-ua
    sec-ch-ua-mobile sec-ch-ua-platform sec-fetch-dest sec-fetch-mode sec-fetch-site sec-fetch-user sentry-trace
    ssl-client-verify subscription te timestamp traceparent tracestate true-client-ip upgrade-insecure-requests
    user-agent via x-amz-cf-id x-amzn-trace-id x-api-key x-api-version x-arr-log-id x-arr-ssl x-azure-clientip
    x-azure-ref x-b3-sampled x-b3-spanid x-b3-traceid x-client-ip x-client-name x-client-version x-cloud-trace-context
    x-cluster-client-ip x-correlation-id x-csrf-token x-datadog-parent-id x-datadog-trace-id x-device-user-agent
    x-envoy-attempt-count x-envoy-decorator-operation x-envoy-expected-rq-timeout-ms x-envoy-external-address
    x-envoy-original-path x-forwarded-by x-forwarded-client-cert x-forwarded-for x-forwarded-host x-forwarded-port
    x-forwarded-prefix x-forwarded-proto x-forwarded-scheme x-forwarded-server x-forwarded-ssl x-goog-api-client
    x-http-method-override x-kong-request-id x-ms-useragent x-original-forwarded-for x-original-host x-original-uri
    x-original-url x-original-user-agent x-real-ip x-real-port x-request-id x-request-start x-requested-with x-scheme
    x-session-id x-stainless-lang x-stainless-os x-stainless-package-version x-stainless-retry-count x-stainless-runtime
    x-amz-expected-bucket-owner x-tenant-id x-user-agent amq-msg-type content-type destination federation-id in-reply-to JMSXUserID JMSXGroupID
    receipt to conversation
"""


@pytest.mark.parametrize("header", CLAIMING.split())
def test_a_header_that_ends_with_one_who_acts_says_who_sends(header: str) -> None:
    assert claims_sender(header)
    assert claims_sender(header.upper())


@pytest.mark.parametrize("header", sorted(set(ORDINARY.split())))
def test_what_says_which_way_a_request_came_or_by_which_program_does_not(header: str) -> None:
    assert not claims_sender(header)
    assert not claims_sender(header.lower())
