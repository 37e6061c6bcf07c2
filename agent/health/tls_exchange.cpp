// SPDX-License-Identifier: Apache-2.0
#include "health/tls_exchange.hpp"

namespace mesh::health {

using model::ProbeReason;
using State = tls::ClientSession::State;

std::optional<Outcome> TlsExchange::feed(std::span<const std::byte> bytes) {
  received_ += bytes.size();
  std::string plain;
  const State state = session_.feed(bytes, plain);
  if (!plain.empty()) {
    if (auto outcome = inner_->feed(std::as_bytes(std::span(plain)))) return outcome;
  }
  if (state == State::kFailed) return Outcome{ProbeReason::kTls, session_.error()};
  if (state == State::kClosed) return inner_->closed();
  if (received_ >= kTlsProbeBytesMax) {
    return Outcome{ProbeReason::kProtocol, "more than " + std::to_string(kTlsProbeBytesMax) + " bytes"};
  }
  if (state == State::kOpen) {
    inner_->sent(session_.write(inner_->output()));
  }
  return std::nullopt;
}

Outcome TlsExchange::closed() {
  if (session_.state() == State::kHandshake) return {ProbeReason::kTls, "closed during the handshake"};
  return inner_->closed();
}

std::string TlsExchange::waiting_for() const {
  return session_.state() == State::kHandshake ? "TLS handshake timeout" : inner_->waiting_for();
}

}  // namespace mesh::health
