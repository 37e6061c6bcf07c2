// SPDX-License-Identifier: Apache-2.0
#include "observe/metrics_relay.hpp"

namespace mesh::observe {
namespace {

using prometheus::MetricType;

}  // namespace

std::vector<Family> relay_families(const api::RelayView& relay) {
  Family up("mesh_relay_up", "1 if a relay serves; absent without listeners.", MetricType::Gauge);
  Family retiring("mesh_relay_retiring", "Earlier relays that still have connections.", MetricType::Gauge);
  Family listening("mesh_relay_listener_up", "1 if the listener listens.", MetricType::Gauge);
  Family active("mesh_relay_connections", "Connections of a listener, now.", MetricType::Gauge);
  Family accepted("mesh_relay_accepted_total", "Connections that came.", MetricType::Counter);
  Family relayed("mesh_relay_relayed_total", "Of them, those that reached a backend.", MetricType::Counter);
  Family failed("mesh_relay_failed_total", "Of them, those that did not, by reason.", MetricType::Counter);
  Family ended("mesh_relay_ended_total", "Connections that ended as they should or after they were relayed, by how.",
               MetricType::Counter);
  Family dry_run("mesh_relay_dry_run_total", "Connections of the mesh taken although not allowed, by service.",
                 MetricType::Counter);
  Family identities("mesh_relay_identities_total",
                    "Connections of the mesh that were relayed, by service, client and the other node's relay.",
                    MetricType::Counter);
  Family retries("mesh_relay_retries_total", "Backends tried because another could not be reached.",
                 MetricType::Counter);
  Family bytes("mesh_relay_bytes_total", "Bytes without TLS, received from clients and sent to them.",
               MetricType::Counter);
  Family handshakes("mesh_relay_handshakes_total", "TLS handshakes, by version and cipher.", MetricType::Counter);
  Family resumed("mesh_relay_handshakes_resumed_total", "Of them, those of a session that is resumed.",
                 MetricType::Counter);
  Family expires("mesh_relay_certificate_expires_seconds",
                 "Time until a listener's certificate, or one of its chain, expires; negative: it has.",
                 MetricType::Gauge);
  Family refused("mesh_relay_certificate_refused", "1 if what the file holds now is of no use and not in use.",
                 MetricType::Gauge);
  Family lists("mesh_relay_revocation_expires_seconds",
               "Time until a listener's revocation lists are out of date and refuse all clients.", MetricType::Gauge);
  Family renews("mesh_relay_acme_next_seconds", "Time until a certificate is fetched by ACME; 0: it is under way.",
                MetricType::Gauge);
  Family acme_expires("mesh_relay_acme_expires_seconds",
                      "Time until a certificate that is fetched by ACME expires; absent: there is none yet.",
                      MetricType::Gauge);
  Family acme_failing("mesh_relay_acme_failing", "1 if it went wrong the last time.", MetricType::Gauge);
  Family acme_issued("mesh_relay_acme_issued_total", "Certificates fetched by ACME.", MetricType::Counter);
  Family acme_failures("mesh_relay_acme_failures_total", "Times that it went wrong.", MetricType::Counter);
  Family plaintext("mesh_relay_plaintext_total",
                   "Connections that came past the relay to endpoints of a service of the mesh, taken or refused.",
                   MetricType::Counter);
  Family plaintext_ends("mesh_relay_plaintext_ends_seconds",
                        "Time until they are refused; negative: since then they are.", MetricType::Gauge);
  for (const api::PlaintextView& one : relay.plaintext) {
    plaintext.add({{"service", one.service}, {"verdict", "taken"}}, number(one.connections));
    plaintext.add({{"service", one.service}, {"verdict", "refused"}}, number(one.refused));
    if (one.ends_in_s) plaintext_ends.add({{"service", one.service}}, *one.ends_in_s);
  }
  if (!relay.report.acme.error.empty()) acme_failing.add({{"name", ""}}, 1);
  for (const api::AcmeCertificateView& one : relay.report.acme.certificates) {
    const prometheus::ClientMetric::Label name{"name", one.name};
    if (one.next_in_s) renews.add({name}, *one.next_in_s);
    if (one.expires_in_s) acme_expires.add({name}, *one.expires_in_s);
    acme_failing.add({name}, one.error.empty() ? 0 : 1);
    acme_issued.add({name}, number(one.issued));
    acme_failures.add({name}, number(one.failures));
  }
  if (relay.wanted) {
    up.add({}, relay.connected ? 1 : 0);
    retiring.add({}, number(relay.retiring));
  }
  const auto add_certificates = [&](const std::string& name, const std::vector<api::RelayCertificateView>& shown) {
    const prometheus::ClientMetric::Label listener{"listener", name};
    for (const api::RelayCertificateView& certificate : shown) {
      const prometheus::ClientMetric::Label file{"file", certificate.file};
      if (certificate.expires_in_s) expires.add({listener, file}, *certificate.expires_in_s);
      refused.add({listener, file}, certificate.error.empty() ? 0 : 1);
    }
  };
  for (const api::RelayIdentityView& one : relay.report.identities) add_certificates(one.id, one.certificates);
  for (const api::RelayListenerView& one : relay.report.listeners) {
    const prometheus::ClientMetric::Label listener{"listener", one.name};
    listening.add({listener}, one.state == "listening" ? 1 : 0);
    active.add({listener}, number(one.active));
    accepted.add({listener}, number(one.accepted));
    relayed.add({listener}, number(one.relayed));
    retries.add({listener}, number(one.retries));
    resumed.add({listener}, number(one.resumed));
    bytes.add({listener, {"direction", "received"}}, number(one.bytes_received));
    bytes.add({listener, {"direction", "sent"}}, number(one.bytes_sent));
    add_certificates(one.name, one.certificates);
    if (one.lists_expire_in_s) lists.add({listener}, *one.lists_expire_in_s);
    for (const auto& [name, count] : one.failed) failed.add({listener, {"reason", name}}, number(count));
    for (const auto& [name, count] : one.ended) ended.add({listener, {"how", name}}, number(count));
    for (const auto& [name, count] : one.dry_run) dry_run.add({listener, {"service", name}}, number(count));
    for (const auto& [name, count] : one.identities) {
      const auto client = name.find(' ');
      const auto server = name.find(' ', client + 1);
      const bool whole = server != std::string::npos;  // else it is what is too much
      identities.add({listener,
                      {"service", name.substr(0, client)},
                      {"client", whole ? name.substr(client + 1, server - client - 1) : ""},
                      {"server", whole ? name.substr(server + 1) : ""}},
                     number(count));
    }
    for (const auto& [name, count] : one.handshakes) {
      const auto space = name.find(' ');
      handshakes.add({listener, {"version", name.substr(0, space)}, {"cipher", name.substr(space + 1)}}, number(count));
    }
  }
  std::vector<Family> families;
  for (Family* family : {&up,           &retiring,     &listening,   &active,        &accepted,  &relayed,
                         &failed,       &ended,        &dry_run,     &identities,    &retries,   &bytes,
                         &handshakes,   &resumed,      &expires,     &refused,       &lists,     &renews,
                         &acme_expires, &acme_failing, &acme_issued, &acme_failures, &plaintext, &plaintext_ends}) {
    families.push_back(std::move(*family));
  }
  return families;
}

}  // namespace mesh::observe
