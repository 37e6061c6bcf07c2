// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <memory>

#include "health/exchange.hpp"
#include "tls/client.hpp"

namespace mesh::health {

/// Another exchange inside TLS. Each probe makes a full handshake on a new connection, so that a certificate that
/// expires or is replaced shows at the next probe.
class TlsExchange final : public Exchange {
 public:
  TlsExchange(std::shared_ptr<const tls::ClientContext> context, const std::string& server_name,
              std::unique_ptr<Exchange> inner)
      : session_(std::move(context), server_name), inner_(std::move(inner)) {}

  [[nodiscard]] std::span<const std::byte> output() const override { return session_.output(); }
  void sent(std::size_t count) override { session_.sent(count); }
  std::optional<Outcome> feed(std::span<const std::byte> bytes) override;
  Outcome closed() override;
  [[nodiscard]] std::string waiting_for() const override;

 private:
  tls::ClientSession session_;
  std::unique_ptr<Exchange> inner_;
  std::size_t received_ = 0;
};

}  // namespace mesh::health
