// SPDX-License-Identifier: Apache-2.0
#include "health/http_probe.hpp"

#include <algorithm>

namespace mesh::health {

using http::ResponseParser;
using model::ProbeReason;

HttpExchange::HttpExchange(const model::ProbePolicy& policy, const base::SocketAddress& endpoint,
                           std::string_view user_agent)
    : policy_(policy),
      request_(http::build_request({.method = policy.method,
                                    .path = policy.path,
                                    .host = policy.host.empty() ? endpoint.to_string() : policy.host},
                                   policy.headers, user_agent)),
      response_(policy.method == "HEAD" ? ResponseParser::Method::kHead : ResponseParser::Method::kOther,
                policy.expect_body.empty() ? ResponseParser::Body::kIgnore : ResponseParser::Body::kKeep,
                kProbeBytesMax) {}

std::span<const std::byte> HttpExchange::output() const { return std::as_bytes(std::span(request_)).subspan(sent_); }

std::optional<Outcome> HttpExchange::feed(std::span<const std::byte> bytes) {
  switch (response_.feed(bytes)) {
    case ResponseParser::Progress::kMore:
      return std::nullopt;
    case ResponseParser::Progress::kDone:
      return judge();
    case ResponseParser::Progress::kFailed:
      break;
  }
  return Outcome{ProbeReason::kProtocol, std::string(response_.error())};
}

Outcome HttpExchange::closed() {
  if (!response_.got_bytes()) return {ProbeReason::kReset, "closed without a response"};
  if (response_.finish() == ResponseParser::Progress::kDone) return judge();
  return {ProbeReason::kProtocol, std::string(response_.error())};
}

std::string HttpExchange::waiting_for() const { return response_.got_bytes() ? "slow response" : "no response"; }

Outcome HttpExchange::judge() const {
  const unsigned status = response_.status();
  std::string detail = "http " + std::to_string(status);
  const bool expected = std::ranges::any_of(
      policy_.expect, [status](const auto& range) { return status >= range.first && status <= range.second; });
  if (!expected) return {ProbeReason::kStatus, std::move(detail)};
  if (!policy_.expect_body.empty() && !response_.body().contains(policy_.expect_body)) {
    return {ProbeReason::kBody, detail + " without the expected body"};
  }
  return {ProbeReason::kOk, std::move(detail)};
}

}  // namespace mesh::health
