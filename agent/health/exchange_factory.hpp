// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <expected>
#include <map>
#include <memory>
#include <tuple>

#include "base/address.hpp"
#include "base/clock.hpp"
#include "health/exchange.hpp"
#include "model/service.hpp"
#include "tls/client.hpp"

namespace mesh::health {

/// Makes the exchange that a policy asks for. Keeps the TLS contexts, and reads a ca_file again when it was replaced.
class ExchangeFactory {
 public:
  explicit ExchangeFactory(std::string user_agent) : user_agent_(std::move(user_agent)) {}

  /// Null: connecting is all there is to the probe. An outcome (kLocal) if this node can't even try: its ca_file is
  /// unreadable. `policy` must outlive the exchange.
  std::expected<std::unique_ptr<Exchange>, Outcome> make(const model::ProbePolicy& policy,
                                                         const base::SocketAddress& endpoint, base::TimePoint now);

 private:
  struct Context {
    base::Result<std::shared_ptr<const tls::ClientContext>> context;
    std::int64_t file_stamp = 0;
    base::TimePoint looked_at{};
  };
  Context& context_for(const model::ProbePolicy& policy, base::TimePoint now);

  std::string user_agent_;
  std::map<std::tuple<std::string, bool, std::string>, Context> contexts_;  ///< By ca_file, verify, ALPN.
};

/// The name that the certificate must be for: sni, else host without its port, else the endpoint's address.
[[nodiscard]] std::string server_name(const model::ProbePolicy& policy, const base::SocketAddress& endpoint);

}  // namespace mesh::health
