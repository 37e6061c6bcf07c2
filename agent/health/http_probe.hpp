// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "base/address.hpp"
#include "health/exchange.hpp"
#include "http/h1_client.hpp"
#include "model/service.hpp"

namespace mesh::health {

/// One HTTP/1.1 request and its answer: healthy if the status is one of `policy.expect` and `expect_body`, where set,
/// occurs in the first 16 KiB of the body. Redirects are not followed: a 302 is a status like any other.
class HttpExchange final : public Exchange {
 public:
  /// `policy` must outlive the exchange. `endpoint` is the Host where the policy names none.
  HttpExchange(const model::ProbePolicy& policy, const base::SocketAddress& endpoint, std::string_view user_agent);

  [[nodiscard]] std::span<const std::byte> output() const override;
  void sent(std::size_t count) override { sent_ += count; }
  std::optional<Outcome> feed(std::span<const std::byte> bytes) override;
  Outcome closed() override;
  [[nodiscard]] bool reusable() const override { return response_.reusable() && sent_ == request_.size(); }
  [[nodiscard]] std::string waiting_for() const override;

 private:
  [[nodiscard]] Outcome judge() const;

  const model::ProbePolicy& policy_;
  std::string request_;
  std::size_t sent_ = 0;
  http::ResponseParser response_;
};

}  // namespace mesh::health
