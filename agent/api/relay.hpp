// SPDX-License-Identifier: Apache-2.0
// What agent and relay say to each other over relay.sock, and how the relay stands in Status.
//
//   relay -> agent   RelayHello, once, after RelaySockets; then RelayReport every second and when something changes
//   agent -> relay   RelayOrders: at first and whenever they change, after RelaySockets; RelayRetire: a successor
//   serves; RelayLeave: endpoints whose connections end
//
// A message may bring descriptors; `descriptors` names them in their order. The agent keeps them as they are: listening
// sockets, and what a successor shall have.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "api/codec.hpp"

namespace mesh::api {

struct RelayHello {
  static constexpr std::string_view kKind = "RelayHello";
  std::string version;
  std::int64_t pid = 0;
  std::vector<std::string> descriptors;  ///< What it holds: an agent that was restarted has none.
  static void fields(auto& self, auto& visit) {
    visit("version", self.version);
    visit("pid", self.pid);
    visit("descriptors", self.descriptors);
  }
};

struct RelayEndpoint {
  std::string address;
  std::uint16_t weight = 1;
  static void fields(auto& self, auto& visit) {
    visit("address", self.address);
    visit("weight", self.weight);
  }
};

/// A service that a listener names, as it is routed now.
struct RelayService {
  std::string name;   ///< As the listener wrote it.
  std::string error;  ///< Why it is none: unknown, or its name stands for several.
  std::string algorithm;
  std::uint32_t maglev_size = 0;
  std::vector<RelayEndpoint> endpoints;  ///< That get connections; none: they are refused.
  std::string full_name;                 ///< With its port, as other nodes call it too: "web:80".
  std::vector<std::string> members;      ///< Of a service of the mesh: all its endpoints, used or not.
  std::string frontend;                  ///< What applications connect to: "240.64.0.10:443"
  std::uint32_t max_age_s = 0;           ///< Of connections; 0: any.
  bool operator==(const RelayService&) const = default;
  static void fields(auto& self, auto& visit) {
    visit("name", self.name);
    visit("error", self.error);
    visit("algorithm", self.algorithm);
    visit("maglev_size", self.maglev_size);
    visit("endpoints", self.endpoints);
    visit("full_name", self.full_name);
    visit("members", self.members);
    visit("frontend", self.frontend);
    visit("max_age_s", self.max_age_s);
  }
};
inline bool operator==(const RelayEndpoint& a, const RelayEndpoint& b) {
  return a.address == b.address && a.weight == b.weight;
}

/// Sockets of services that TLS is begun for, and for the relay one by which to ask for the owners of sockets in each
/// of their namespaces, from whoever has them to the other: as many messages as it takes, before the orders that name
/// them, or before the hello.
struct RelaySockets {
  static constexpr std::string_view kKind = "RelaySockets";
  std::vector<std::string> descriptors;
  static void fields(auto& self, auto& visit) { visit("descriptors", self.descriptors); }
};

/// How TLS is spoken with the backends of a service: model::TlsPolicy.
struct RelayTls {
  std::string mode;
  std::string server_name;
  std::string ca;
  std::string certificate;
  std::string key;
  std::string min_version;
  std::vector<std::string> alpn;
  std::vector<std::string> server_ids;
  bool operator==(const RelayTls&) const = default;
  static void fields(auto& self, auto& visit) {
    visit("mode", self.mode);
    visit("server_name", self.server_name);
    visit("ca", self.ca);
    visit("certificate", self.certificate);
    visit("key", self.key);
    visit("min_version", self.min_version);
    visit("alpn", self.alpn);
    visit("server_ids", self.server_ids);
  }
};

/// A service whose connections come to the relay from applications of this host.
struct RelayOutbound {
  std::string name;      ///< "payments:443"
  std::string frontend;  ///< What applications connect to: "240.64.0.10:443"
  std::string listen;    ///< Where the kernel sends them: "127.0.0.1:15400"
  RelayTls tls;
  RelayService service;
  std::vector<std::string> sockets;  ///< That stand for it, one in each network namespace.
  bool operator==(const RelayOutbound&) const = default;
  static void fields(auto& self, auto& visit) {
    visit("name", self.name);
    visit("frontend", self.frontend);
    visit("listen", self.listen);
    visit("tls", self.tls);
    visit("service", self.service);
    visit("sockets", self.sockets);
  }
};

struct RelayOrders {
  static constexpr std::string_view kKind = "RelayOrders";
  std::string settings;  ///< `relay:` of the configuration, as JSON.
  std::string node;      ///< `agent.node`, or the host's name.
  std::string cgroups;   ///< Where cgroups are mounted.
  std::vector<RelayService> services;
  std::vector<RelayOutbound> outbound;
  std::vector<std::string> descriptors;  ///< What the agent keeps for a relay that starts.
  static void fields(auto& self, auto& visit) {
    visit("settings", self.settings);
    visit("node", self.node);
    visit("cgroups", self.cgroups);
    visit("services", self.services);
    visit("outbound", self.outbound);
    visit("descriptors", self.descriptors);
  }
};

struct RelayRetire {
  static constexpr std::string_view kKind = "RelayRetire";
  std::int64_t successor = 0;  ///< Its process.
  static void fields(auto& self, auto& visit) { visit("successor", self.successor); }
};

/// Relayed connections to these are to end now.
struct RelayLeave {
  static constexpr std::string_view kKind = "RelayLeave";
  struct Item {
    std::string frontend;  ///< Of the service.
    std::string endpoint;
    static void fields(auto& self, auto& visit) {
      visit("frontend", self.frontend);
      visit("endpoint", self.endpoint);
    }
  };
  std::vector<Item> items;
  static void fields(auto& self, auto& visit) { visit("items", self.items); }
};

/// What connections experienced with an endpoint of a service. Counters are of the relay's life.
struct RelayEndpointView {
  std::string frontend;  ///< Of the service.
  std::string endpoint;
  std::uint64_t open = 0;  ///< Relayed, now.
  std::uint64_t begun = 0;
  std::uint64_t established = 0;
  std::uint64_t refused = 0;
  std::uint64_t timed_out = 0;
  std::uint64_t unreachable = 0;
  std::uint64_t not_agreed = 0;  ///< TLS failed.
  std::uint64_t closed = 0;
  std::uint64_t cut_off = 0;
  static void fields(auto& self, auto& visit) {
    visit("frontend", self.frontend);
    visit("endpoint", self.endpoint);
    visit("open", self.open);
    visit("begun", self.begun);
    visit("established", self.established);
    visit("refused", self.refused);
    visit("timed_out", self.timed_out);
    visit("unreachable", self.unreachable);
    visit("not_agreed", self.not_agreed);
    visit("closed", self.closed);
    visit("cut_off", self.cut_off);
  }
};

/// A number of events by a name: of a reason, a cipher, a version.
struct RelayCount {
  std::string name;
  std::uint64_t count = 0;
  static void fields(auto& self, auto& visit) {
    visit("name", self.name);
    visit("count", self.count);
  }
};

/// A certificate of a listener.
struct RelayCertificateView {
  std::string file;
  std::string subject;  ///< Empty, as the next ones: none could be read.
  std::string issuer;
  std::vector<std::string> names;  ///< That clients ask for: DNS names, then addresses; of an identity its SPIFFE ID.
  std::string key;                 ///< "EC prime256v1", "RSA 2048"
  std::string serial;
  std::string fingerprint;  ///< SHA-256
  std::string begins_at;
  std::string expires_at;              ///< Of the first of its chain.
  std::optional<double> expires_in_s;  ///< Negative: it has expired.
  std::string error;                   ///< Why what the file holds now is not in use.
  static void fields(auto& self, auto& visit) {
    visit("file", self.file);
    visit("subject", self.subject);
    visit("issuer", self.issuer);
    visit("names", self.names);
    visit("key", self.key);
    visit("serial", self.serial);
    visit("fingerprint", self.fingerprint);
    visit("begins_at", self.begins_at);
    visit("expires_at", self.expires_at);
    visit("expires_in_s", self.expires_in_s);
    visit("error", self.error);
  }
};

struct RelayListenerView {
  std::string name;
  std::string address;
  std::string mode;
  std::string state;                 ///< "listening", "failed"
  std::string error;                 ///< Why it does not listen, or why its newest certificates are not in use.
  std::uint64_t active = 0;          ///< Connections, now.
  std::uint64_t accepted = 0;        ///< Since the relay's start, as the next ones.
  std::uint64_t relayed = 0;         ///< That reached a backend.
  std::uint64_t bytes_received = 0;  ///< From clients, before TLS.
  std::uint64_t bytes_sent = 0;
  std::uint64_t retries = 0;                       ///< Backends tried after another could not be reached.
  std::uint64_t resumed = 0;                       ///< Of the handshakes.
  std::vector<RelayCount> handshakes;              ///< By version and cipher: "TLSv1.3 TLS_AES_128_GCM_SHA256".
  std::vector<RelayCount> failed;                  ///< Connections that ended before they were relayed, by reason.
  std::vector<RelayCount> ended;                   ///< Relayed ones, by how they ended.
  std::vector<RelayCount> dry_run;                 ///< Of the mesh: taken although not allowed, by service.
  std::vector<RelayCount> identities;              ///< Of the mesh: relayed, by service, client and other node's relay.
  std::vector<RelayCertificateView> certificates;  ///< The first is for clients that ask for no name of another.
  std::optional<double> lists_expire_in_s;         ///< Revocation lists; from then on they refuse every client.
  static void fields(auto& self, auto& visit) {
    visit("name", self.name);
    visit("address", self.address);
    visit("mode", self.mode);
    visit("state", self.state);
    visit("error", self.error);
    visit("active", self.active);
    visit("accepted", self.accepted);
    visit("relayed", self.relayed);
    visit("bytes_received", self.bytes_received);
    visit("bytes_sent", self.bytes_sent);
    visit("retries", self.retries);
    visit("resumed", self.resumed);
    visit("handshakes", self.handshakes);
    visit("failed", self.failed);
    visit("ended", self.ended);
    visit("dry_run", self.dry_run);
    visit("identities", self.identities);
    visit("certificates", self.certificates);
    visit("lists_expire_in_s", self.lists_expire_in_s);
  }
};

/// A certificate that the relay fetches by ACME.
struct AcmeCertificateView {
  std::string name;
  std::vector<std::string> names;
  std::string issuer;                  ///< Of the certificate; empty: there is none yet.
  std::optional<double> expires_in_s;  ///< Negative: it has expired.
  std::optional<double> next_in_s;     ///< Until it is fetched, for the first time or again.
  std::string next_at;
  std::uint64_t issued = 0;  ///< Since the relay's start, as the next one.
  std::uint64_t failures = 0;
  std::string error;  ///< Of the last time; empty: it went well.
  static void fields(auto& self, auto& visit) {
    visit("name", self.name);
    visit("names", self.names);
    visit("issuer", self.issuer);
    visit("expires_in_s", self.expires_in_s);
    visit("next_in_s", self.next_in_s);
    visit("next_at", self.next_at);
    visit("issued", self.issued);
    visit("failures", self.failures);
    visit("error", self.error);
  }
};

struct AcmeView {
  bool wanted = false;      ///< The configuration names an issuer.
  bool fetches = false;     ///< This is the node that does.
  std::string issuer_node;  ///< That one.
  std::string error;        ///< Why nothing is fetched.
  std::vector<AcmeCertificateView> certificates;
  static void fields(auto& self, auto& visit) {
    visit("wanted", self.wanted);
    visit("fetches", self.fetches);
    visit("issuer_node", self.issuer_node);
    visit("error", self.error);
    visit("certificates", self.certificates);
  }
};

struct ListenerCertificates {
  std::string listener;
  std::vector<RelayCertificateView> certificates;
  static void fields(auto& self, auto& visit) {
    visit("listener", self.listener);
    visit("certificates", self.certificates);
  }
};

/// What `meshctl certs` shows.
struct CertificateList {
  static constexpr std::string_view kKind = "CertificateList";
  std::vector<ListenerCertificates> items;
  AcmeView acme;
  static void fields(auto& self, auto& visit) {
    visit("items", self.items);
    visit("acme", self.acme);
  }
};

/// Of applications of this host towards other nodes.
struct RelayIdentityView {
  std::string id;
  std::string error;  ///< Why what its files hold now is not in use.
  std::vector<RelayCertificateView> certificates;
  static void fields(auto& self, auto& visit) {
    visit("id", self.id);
    visit("error", self.error);
    visit("certificates", self.certificates);
  }
};

struct RelayReport {
  static constexpr std::string_view kKind = "RelayReport";
  bool serving = false;  ///< The orders are in force: an earlier relay may retire.
  std::string loop;      ///< "io_uring" or "epoll"
  std::uint32_t workers = 0;
  std::vector<RelayListenerView> listeners;
  std::vector<RelayIdentityView> identities;
  std::vector<RelayEndpointView> endpoints;  ///< That it has to do with.
  AcmeView acme;
  std::vector<std::string> descriptors;  ///< New ones, to be kept.
  std::vector<std::string> kept;         ///< All that are still of use; the agent may forget others.
  static void fields(auto& self, auto& visit) {
    visit("serving", self.serving);
    visit("loop", self.loop);
    visit("workers", self.workers);
    visit("listeners", self.listeners);
    visit("identities", self.identities);
    visit("endpoints", self.endpoints);
    visit("acme", self.acme);
    visit("descriptors", self.descriptors);
    visit("kept", self.kept);
  }
};

/// What came past the relay, in plaintext, to this node's endpoints of a service of the mesh. The agent sees to it.
struct PlaintextView {
  std::string service;              ///< "web:80"
  bool taken = false;               ///< Such connections are; else they are refused.
  std::string ends_at;              ///< From then on they are refused; empty: at all times.
  std::optional<double> ends_in_s;  ///< Negative: since so long.
  std::uint64_t connections = 0;    ///< That were taken, since the agent's start.
  std::uint64_t refused = 0;        ///< Likewise.
  std::string source;               ///< Of the last one; empty: there was none.
  std::string error;                ///< Why it is not so.
  static void fields(auto& self, auto& visit) {
    visit("service", self.service);
    visit("taken", self.taken);
    visit("ends_at", self.ends_at);
    visit("ends_in_s", self.ends_in_s);
    visit("connections", self.connections);
    visit("refused", self.refused);
    visit("source", self.source);
    visit("error", self.error);
  }
};

/// The relay in Status.
struct RelayView {
  bool wanted = false;     ///< The configuration has listeners.
  bool connected = false;  ///< One serves and reports.
  std::int64_t pid = 0;
  std::string version;
  std::uint64_t retiring = 0;              ///< Earlier relays that still have connections.
  std::vector<std::string> errors;         ///< Services that listeners name and that are none.
  std::vector<std::string> socket_errors;  ///< Network namespaces in which services that need the relay are refused.
  std::string exempt_error;                ///< Why its own connections are not left alone by the hooks.
  std::vector<PlaintextView> plaintext;    ///< Of services of the mesh where somebody looks.
  RelayReport report;
  static void fields(auto& self, auto& visit) {
    visit("wanted", self.wanted);
    visit("connected", self.connected);
    visit("pid", self.pid);
    visit("version", self.version);
    visit("retiring", self.retiring);
    visit("errors", self.errors);
    visit("socket_errors", self.socket_errors);
    visit("exempt_error", self.exempt_error);
    visit("plaintext", self.plaintext);
    visit("loop", self.report.loop);
    visit("workers", self.report.workers);
    visit("listeners", self.report.listeners);
    visit("identities", self.report.identities);
    visit("acme", self.report.acme);
  }
};

}  // namespace mesh::api
