// SPDX-License-Identifier: Apache-2.0
#include "health/exchange_factory.hpp"

#include <sys/stat.h>

#include "health/grpc_probe.hpp"
#include "health/http_probe.hpp"
#include "health/tls_exchange.hpp"

namespace mesh::health {
namespace {

using model::ProbeType;

constexpr base::Duration kLookAgain = std::chrono::seconds(5);  ///< Between two looks at a ca_file.

/// Changes when the file is replaced or written; 0 if there is none.
std::int64_t stamp_of(const std::string& path) {
  struct stat status{};
  if (path.empty() || ::stat(path.c_str(), &status) != 0) return 0;
  return status.st_mtim.tv_sec * 1'000'000'000 + status.st_mtim.tv_nsec + static_cast<std::int64_t>(status.st_ino);
}

}  // namespace

std::string server_name(const model::ProbePolicy& policy, const base::SocketAddress& endpoint) {
  if (!policy.sni.empty()) return policy.sni;
  if (policy.host.empty()) return endpoint.ip.to_string();
  if (policy.host.starts_with('[')) return policy.host.substr(1, policy.host.find(']') - 1);
  return policy.host.substr(0, policy.host.find(':'));
}

std::expected<std::unique_ptr<Exchange>, Outcome> ExchangeFactory::make(const model::ProbePolicy& policy,
                                                                        const base::SocketAddress& endpoint,
                                                                        base::TimePoint now) {
  std::unique_ptr<Exchange> exchange;
  switch (policy.type) {
    case ProbeType::kTcp:
      return nullptr;
    case ProbeType::kHttp:
      return std::make_unique<HttpExchange>(policy, endpoint, user_agent_);
    case ProbeType::kHttps:
      exchange = std::make_unique<HttpExchange>(policy, endpoint, user_agent_);
      break;
    case ProbeType::kGrpc:
      exchange = std::make_unique<GrpcExchange>(policy, endpoint, user_agent_);
      if (!policy.tls) return exchange;
      break;
  }
  const Context& entry = context_for(policy, now);
  if (!entry.context) return std::unexpected(Outcome{model::ProbeReason::kLocal, entry.context.error().message});
  return std::make_unique<TlsExchange>(*entry.context, server_name(policy, endpoint), std::move(exchange));
}

ExchangeFactory::Context& ExchangeFactory::context_for(const model::ProbePolicy& policy, base::TimePoint now) {
  const std::string alpn = policy.type == ProbeType::kGrpc ? "h2" : "http/1.1";
  const auto [found, fresh] = contexts_.try_emplace({policy.ca_file, policy.verify, alpn});
  Context& entry = found->second;
  if (!fresh && now - entry.looked_at < kLookAgain) return entry;
  entry.looked_at = now;
  const std::int64_t stamp = stamp_of(policy.ca_file);
  if (fresh || stamp != entry.file_stamp) {
    entry.file_stamp = stamp;
    entry.context = tls::ClientContext::make({.ca_file = policy.ca_file, .verify = policy.verify, .alpn = {alpn}});
  }
  return entry;
}

}  // namespace mesh::health
