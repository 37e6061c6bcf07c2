// SPDX-License-Identifier: Apache-2.0
#include "health/grpc_probe.hpp"

#include <array>

namespace mesh::health {
namespace {

using model::ProbeReason;

constexpr std::size_t kPrefixBytes = 5;  ///< Of a gRPC message: compressed flag, length in network order.
constexpr std::uint64_t kServing = 1;
constexpr std::array<std::string_view, 4> kServingNames = {"unknown", "serving", "not serving", "service unknown"};

/// HealthCheckRequest{service = 1}, framed. The name has at most 2^14 - 1 bytes, so its length fits two.
std::string check_request(std::string_view service) {
  std::string message;
  if (!service.empty()) {
    message.push_back(0x0a);  // field 1, length-delimited
    if (service.size() >= 128) message.push_back(static_cast<char>((service.size() & 127) | 128));
    message.push_back(static_cast<char>(service.size() >= 128 ? service.size() >> 7 : service.size()));
    message.append(service);
  }
  std::string framed(1, '\0');
  for (int shift = 24; shift >= 0; shift -= 8) framed.push_back(static_cast<char>((message.size() >> shift) & 255));
  return framed + message;
}

std::optional<std::uint64_t> take_varint(std::string_view& bytes) {
  std::uint64_t value = 0;
  for (unsigned shift = 0; shift < 64 && !bytes.empty(); shift += 7) {
    const auto byte = static_cast<std::uint8_t>(bytes.front());
    bytes.remove_prefix(1);
    value |= static_cast<std::uint64_t>(byte & 127) << shift;
    if (byte < 128) return value;
  }
  return std::nullopt;
}

/// Lower-case, as in status texts of people.
std::string_view status_name(std::string_view code) {
  constexpr std::array<std::string_view, 17> kNames = {
      "ok",        "cancelled",      "unknown",           "invalid argument",   "deadline exceeded",
      "not found", "already exists", "permission denied", "resource exhausted", "failed precondition",
      "aborted",   "out of range",   "unimplemented",     "internal",           "unavailable",
      "data loss", "unauthenticated"};
  for (std::size_t i = 0; i < kNames.size(); ++i) {
    if (code == std::to_string(i)) return kNames[i];
  }
  return code;
}

std::string authority_of(const model::ProbePolicy& policy, const base::SocketAddress& endpoint) {
  return policy.host.empty() ? endpoint.to_string() : policy.host;
}

http::Headers request_headers(const model::ProbePolicy& policy, std::string_view user_agent) {
  http::Headers headers = {
      {"content-type", "application/grpc"}, {"te", "trailers"}, {"user-agent", std::string(user_agent)}};
  for (auto [name, value] : policy.headers) {
    for (char& letter : name) {
      if (letter >= 'A' && letter <= 'Z') letter = static_cast<char>(letter - 'A' + 'a');
    }
    headers.emplace_back(std::move(name), std::move(value));
  }
  return headers;
}

}  // namespace

std::optional<std::uint64_t> serving_status(std::string_view body) {
  if (body.size() < kPrefixBytes || body[0] != 0) return std::nullopt;
  std::uint64_t length = 0;
  for (std::size_t i = 1; i < kPrefixBytes; ++i) length = length << 8 | static_cast<std::uint8_t>(body[i]);
  body.remove_prefix(kPrefixBytes);
  if (length != body.size()) return std::nullopt;
  std::uint64_t status = 0;
  while (!body.empty()) {
    const auto key = take_varint(body);
    if (!key) return std::nullopt;
    std::uint64_t skip = 0;
    switch (*key & 7) {
      case 0: {
        const auto value = take_varint(body);
        if (!value) return std::nullopt;
        if (*key >> 3 == 1) status = *value;
        break;
      }
      case 1:
        skip = 8;
        break;
      case 2: {
        const auto size = take_varint(body);
        if (!size) return std::nullopt;
        skip = *size;
        break;
      }
      case 5:
        skip = 4;
        break;
      default:
        return std::nullopt;
    }
    if (skip > body.size()) return std::nullopt;
    body.remove_prefix(skip);
  }
  return status;
}

GrpcExchange::GrpcExchange(const model::ProbePolicy& policy, const base::SocketAddress& endpoint,
                           std::string_view user_agent)
    : call_({.scheme = policy.tls ? "https" : "http",
             .authority = authority_of(policy, endpoint),
             .path = "/grpc.health.v1.Health/Check",
             .headers = request_headers(policy, user_agent),
             .body = check_request(policy.grpc_service)},
            kProbeBytesMax) {}

std::optional<Outcome> GrpcExchange::feed(std::span<const std::byte> bytes) {
  switch (call_.feed(bytes)) {
    case http::UnaryCall::Progress::kMore:
      return std::nullopt;
    case http::UnaryCall::Progress::kFailed:
      return Outcome{ProbeReason::kProtocol, call_.error()};
    case http::UnaryCall::Progress::kDone:
      break;
  }
  if (call_.status() != 200) return Outcome{ProbeReason::kStatus, "http " + std::to_string(call_.status())};
  const std::string* code = http::find_header(call_.headers(), "grpc-status");
  if (code == nullptr) return Outcome{ProbeReason::kGrpc, "no grpc-status"};
  if (*code != "0") return Outcome{ProbeReason::kGrpc, "grpc " + std::string(status_name(*code))};
  const auto status = serving_status(call_.body());
  if (!status) return Outcome{ProbeReason::kGrpc, "no health response"};
  const std::string name = "grpc " + std::string(*status < kServingNames.size() ? kServingNames[*status] : "unknown");
  return Outcome{*status == kServing ? ProbeReason::kOk : ProbeReason::kGrpc, name};
}

Outcome GrpcExchange::closed() {
  if (!call_.got_bytes()) return {ProbeReason::kReset, "closed without a response"};
  return {ProbeReason::kProtocol, "closed before the end of the response"};
}

std::string GrpcExchange::waiting_for() const { return call_.got_bytes() ? "slow response" : "no response"; }

}  // namespace mesh::health
