// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "base/address.hpp"
#include "health/exchange.hpp"
#include "http/h2_client.hpp"
#include "model/service.hpp"

namespace mesh::health {

/// grpc.health.v1.Health/Check for `policy.grpc_service` (empty: the whole server): healthy if it says SERVING.
/// The protocol: github.com/grpc/grpc, doc/health-checking.md and doc/PROTOCOL-HTTP2.md.
class GrpcExchange final : public Exchange {
 public:
  GrpcExchange(const model::ProbePolicy& policy, const base::SocketAddress& endpoint, std::string_view user_agent);

  [[nodiscard]] std::span<const std::byte> output() const override { return call_.output(); }
  void sent(std::size_t count) override { call_.sent(count); }
  std::optional<Outcome> feed(std::span<const std::byte> bytes) override;
  Outcome closed() override;
  [[nodiscard]] std::string waiting_for() const override;

 private:
  http::UnaryCall call_;
};

/// The body of a Check response: serving status, or nothing if it is no HealthCheckResponse.
[[nodiscard]] std::optional<std::uint64_t> serving_status(std::string_view body);

}  // namespace mesh::health
