// SPDX-License-Identifier: Apache-2.0
// Both sides of the mesh: connections from other nodes' relays, and to them.
#include "relay/proxy_header.hpp"
#include "tests/support/relay_connection.hpp"

namespace mesh::relay {
namespace {

using namespace std::chrono_literals;
using test::ConnectionTest;
using test::kClient;
using test::receive_all;

/// Another node's relay, by hand: sockets of a pair have no address, so the destination is that of none.
class MeshConnectionTest : public ConnectionTest {
 protected:
  std::shared_ptr<Listener> make_mesh(const std::string& revoked = "") {
    auto listener = make_listener(Mode::kPassthrough);
    listener->settings = mesh_listener({.address = kClient});
    const auto own = test::make_svid("spiffe://a.test/node", in_an_hour(), authority_);
    tls::ServerOptions options{
        .tls12 = false, .alpn = {std::string(kMeshProtocol)}, .verify = tls::ClientVerify::kRequire};
    options.certificates = {*tls::Certificate::parse(own.certificate, own.key)};
    options.trust = std::make_shared<const tls::Trust>(
        tls::Trust::Bundles{{"a.test", *tls::Authorities::parse(authority_.certificate, revoked)}});
    listener->tls = *tls::ServerContext::make(options, tls::Library::shared());
    listener->mesh = policies_;
    listener->said = std::make_shared<SaidOnce>();
    return listener;
  }
  static std::chrono::system_clock::time_point in_an_hour() { return std::chrono::system_clock::now() + 1h; }
  test::TlsClient::Options peer(const test::CertificatePem& shown, const std::string& alpn = "\x07meshd/1") const {
    return {.server_name = "", .alpn = alpn, .certificate = shown};
  }
  static std::string header(const std::string& service, const std::string& destination = "[::]:80") {
    return encode({.source = kClient, .destination = *base::SocketAddress::parse(destination), .service = service});
  }

  const test::CertificatePem authority_ = test::make_authority("a", std::chrono::system_clock::now() + 2h);
  const test::CertificatePem shop_ = test::make_svid("spiffe://a.test/shop", in_an_hour(), authority_);
  const std::shared_ptr<const MeshPolicies> policies_ =
      std::make_shared<const MeshPolicies>(MeshPolicies{{"web:80",
                                                         {.allow = {*tls::SpiffePattern::parse("spiffe://a.test/shop")},
                                                          .endpoints = {*base::SocketAddress::parse("[::]:80")}}}});
};

TEST_F(MeshConnectionTest, relays_to_the_destination_after_saying_so) {
  connect(make_mesh());
  test::TlsClient client(peer(shop_));
  talk(client);
  ASSERT_TRUE(client.open());
  EXPECT_TRUE(dialed_.empty()) << "nobody has said where to";
  const std::string said = header("web:80") + "question";
  client.write(said.substr(0, 10));
  talk(client);
  client.write(said.substr(10));
  EXPECT_EQ(talk(client), std::string(1, '\0'));
  EXPECT_EQ(dialed_, std::vector<std::string>{"[::]:80"});
  EXPECT_EQ(receive_all(backend_.get()), "question");
  ASSERT_EQ(::send(backend_.get(), "answer", 6, 0), 6);
  step();
  EXPECT_EQ(talk(client), "answer");
  client.close();
  talk(client);
  EXPECT_TRUE(test::ended(backend_.get()));
  ASSERT_EQ(::send(backend_.get(), "more", 4, 0), 4) << "half-closed";
  step();
  EXPECT_EQ(talk(client), "more");
}

TEST_F(MeshConnectionTest, names_why_it_refuses_on_both_sides) {
  const auto refused = [&](const std::string& said, const test::CertificatePem& shown) {
    connect(make_mesh());
    test::TlsClient client(peer(shown));
    talk(client);
    client.write(said);
    const std::string reply = talk(client);
    EXPECT_TRUE(client.peer_closed());
    EXPECT_EQ(reply.size(), 1U);
    return reply.empty() ? MeshReply::kConnected : static_cast<MeshReply>(reply[0]);
  };
  const auto cart = test::make_svid("spiffe://a.test/cart", in_an_hour(), authority_);
  EXPECT_EQ(refused(header("web:80"), cart), MeshReply::kNotAllowed);
  EXPECT_EQ(refused(header("web:81"), shop_), MeshReply::kNoService);
  EXPECT_EQ(refused(header("web:80", "[::]:81"), shop_), MeshReply::kNotHere);
  EXPECT_EQ(refused("GET / HTTP/1.1\r\n\r\n", shop_), MeshReply::kHeader);
  refusing_.insert("[::]:80");
  EXPECT_EQ(refused(header("web:80"), shop_), MeshReply::kUnreachable);
  EXPECT_EQ(failed(), (Counts{{"mesh: header", 1},
                              {"mesh: no endpoint of the service here", 1},
                              {"mesh: no such service here", 1},
                              {"mesh: not allowed", 1},
                              {"mesh: workload does not answer", 1}}));
}

TEST_F(MeshConnectionTest, refuses_identities_and_versions_in_the_handshake) {
  const auto refused = [&](const test::TlsClient::Options& options) {
    connect(make_mesh());
    test::TlsClient client(options);
    talk(client);
  };
  const auto elsewhere = test::make_authority("b", std::chrono::system_clock::now() + 2h);
  refused(peer(test::make_svid("spiffe://b.test/shop", in_an_hour(), elsewhere)));
  refused(peer(test::make_svid("spiffe://a.test/shop", in_an_hour(), elsewhere)));
  refused(peer(test::make_svid("spiffe://a.test/shop", std::chrono::system_clock::now() - 1h, authority_)));
  refused(peer({}));
  refused(peer(shop_, "\x07meshd/2"));
  EXPECT_EQ(failed(), (Counts{{"certificate: certificate expired", 1},
                              {"certificate: unknown issuer", 1},
                              {"certificate: unknown trust domain", 1},
                              {"tls: alpn", 1},
                              {"tls: no_certificate", 1}}));
}

TEST_F(MeshConnectionTest, is_closed_when_its_peer_is_revoked_and_not_when_certificates_are_new) {
  connect(make_mesh());
  test::TlsClient client(peer(shop_));
  talk(client);
  client.write(header("web:80"));
  talk(client);
  connection_->recheck(make_mesh());
  EXPECT_EQ(ended_, 0);
  connection_->recheck(make_mesh(test::make_revocation_list(authority_, {shop_}, in_an_hour())));
  EXPECT_EQ(ended_, 1);
  EXPECT_EQ(endings(), (Counts{{"mesh: certificate revoked", 1}}));
}

TEST_F(MeshConnectionTest, is_closed_when_its_identity_is_not_allowed_any_more) {
  connect(make_mesh());
  test::TlsClient client(peer(shop_));
  talk(client);
  client.write(header("web:80"));
  talk(client);
  const auto others = make_mesh();
  others->mesh =
      std::make_shared<const MeshPolicies>(MeshPolicies{{"web:80",
                                                         {.allow = {*tls::SpiffePattern::parse("spiffe://a.test/cart")},
                                                          .endpoints = {*base::SocketAddress::parse("[::]:80")}}}});
  connection_->recheck(others);
  EXPECT_EQ(endings(), (Counts{{"mesh: not allowed", 1}}));
}

/// The other side: an application of this host, whose connection goes to another node's relay.
class MeshClientTest : public ConnectionTest {
 protected:
  std::shared_ptr<const tls::Trust> trust(const std::string& revoked = "") const {
    return std::make_shared<const tls::Trust>(
        tls::Trust::Bundles{{"a.test", *tls::Authorities::parse(authority_.certificate, revoked)}});
  }
  std::shared_ptr<const tls::ClientContext> context(const std::string& revoked = "") const {
    tls::ClientContext::Options options;
    options.trust = trust(revoked);
    options.resume = true;
    options.alpn = {std::string(kMeshProtocol)};
    options.certificate = *tls::Certificate::parse(shop_.certificate, shop_.key);
    options.tls12 = false;
    return *tls::ClientContext::make(options);
  }
  std::shared_ptr<Listener> make_mutual(int endpoints = 1) {
    auto listener = make_listener(Mode::kMutual, endpoints);
    listener->settings.name = "web:80";
    identities_ = {.rules = {{.id = *tls::SpiffeId::parse("spiffe://a.test/shop"), .cgroup = "/apps"}},
                   .contexts = {context_}};
    listener->mesh_client = client_of("spiffe://a.test/node/*");
    listener->said = std::make_shared<SaidOnce>();
    return listener;
  }
  std::shared_ptr<const MeshClient> client_of(const std::string& servers) const {
    return std::make_shared<const MeshClient>(
        MeshClient{.identities = std::make_shared<const MeshIdentities>(identities_),
                   .servers = {*tls::SpiffePattern::parse(servers)},
                   .port = 15008,
                   .find_owner = [this](int) { return owner_; }});
  }
  /// A relay that shows this identity, with tickets to resume.
  std::shared_ptr<const tls::ServerContext> relay_of(const std::string& id, const std::string& alpn = "meshd/1") const {
    const auto own = test::make_svid(id, in_an_hour(), authority_);
    tls::ServerOptions options{.tls12 = false, .alpn = {alpn}, .verify = tls::ClientVerify::kRequire};
    options.certificates = {*tls::Certificate::parse(own.certificate, own.key)};
    options.trust = trust();
    options.tickets = tickets_;
    return *tls::ServerContext::make(options, tls::Library::shared());
  }
  /// What the relay's side heard first, after it replied.
  ProxyHeader answer(tls::ServerSession& server, MeshReply reply) {
    const std::string said = serve(server);
    const ProxyParse parsed = parse_proxy_header(std::as_bytes(std::span(said)));
    EXPECT_EQ(parsed.state, ProxyState::kHeader) << parsed.problem;
    EXPECT_EQ(parsed.size, said.size()) << "not a byte of the application before the reply";
    const auto byte = static_cast<std::byte>(reply);
    EXPECT_EQ(server.write({&byte, 1}), 1U);
    rest_ = serve(server);
    return parsed.header;
  }
  static std::chrono::system_clock::time_point in_an_hour() { return std::chrono::system_clock::now() + 1h; }
  static std::shared_ptr<const tls::TicketKeys> fresh_keys() {
    tls::TicketKeys keys;
    rotate(keys, base::wall_now());
    return std::make_shared<const tls::TicketKeys>(std::move(keys));
  }

  const test::CertificatePem authority_ = test::make_authority("a", std::chrono::system_clock::now() + 2h);
  const test::CertificatePem shop_ = test::make_svid("spiffe://a.test/shop", in_an_hour(), authority_);
  const std::shared_ptr<const tls::TicketKeys> tickets_ = fresh_keys();
  std::shared_ptr<const tls::ClientContext> context_ = context();
  MeshIdentities identities_;
  base::Result<Owner> owner_ = Owner{.cgroup = "/apps/pod", .uid = 1000};
  std::string rest_;
};

TEST_F(MeshClientTest, says_who_wants_what_and_passes_bytes_on_when_that_is_taken) {
  connect(make_mutual());
  ASSERT_EQ(::send(client_.get(), "question", 8, 0), 8);
  EXPECT_EQ(dialed_, std::vector<std::string>{"10.0.0.1:15008"});
  tls::ServerSession server(relay_of("spiffe://a.test/node/b"));
  const ProxyHeader header = answer(server, MeshReply::kConnected);
  EXPECT_EQ(server.peer_id()->to_string(), "spiffe://a.test/shop");
  EXPECT_EQ(header.source, kClient);
  EXPECT_EQ(header.destination->to_string(), "10.0.0.1:80");
  EXPECT_EQ(header.service, "web:80");
  EXPECT_EQ(rest_, "question");
  EXPECT_EQ(server.write(std::as_bytes(std::span("answer", 6))), 6U);
  serve(server);
  EXPECT_EQ(receive_all(client_.get()), "answer") << "and nothing of the reply";
  Counts identities;
  stats_->identities.add_to(identities);
  EXPECT_EQ(identities, (Counts{{"web:80 spiffe://a.test/shop spiffe://a.test/node/b", 1}}));
}

TEST_F(MeshClientTest, a_refusal_is_named_and_another_endpoint_tried) {
  connect(make_mutual(2));
  ASSERT_EQ(::send(client_.get(), "question", 8, 0), 8);
  const auto relay = relay_of("spiffe://a.test/node/b");
  tls::ServerSession first(relay);
  answer(first, MeshReply::kUnreachable);
  ASSERT_EQ(dialed_.size(), 2U);
  tls::ServerSession second(relay);
  answer(second, MeshReply::kConnected);
  EXPECT_EQ(rest_, "question") << "the first relay took none of it";
  EXPECT_EQ(stats_->retries, 1U);
  EXPECT_EQ(failed(), Counts{});
  connect(make_mutual());
  tls::ServerSession third(relay);
  answer(third, MeshReply::kNotAllowed);
  EXPECT_EQ(failed(), (Counts{{"mesh: not allowed", 1}}));
}

TEST_F(MeshClientTest, without_an_identity_nothing_is_dialed) {
  owner_ = Owner{.cgroup = "/other", .uid = 0};
  connect(make_mutual());
  owner_ = base::fail(base::ErrorKind::kUnavailable, "gone");
  connect(make_mutual());
  owner_ = Owner{.cgroup = "/apps", .uid = 0};
  auto listener = make_mutual();
  identities_.contexts = {nullptr};
  listener->mesh_client = client_of("spiffe://a.test/node/*");
  connect(listener);
  EXPECT_TRUE(dialed_.empty());
  EXPECT_EQ(failed(), (Counts{{"identity: its files are of no use", 1},
                              {"identity: none for the client", 1},
                              {"identity: owner unknown", 1}}));
}

TEST_F(MeshClientTest, a_server_that_is_none_of_those_that_may_answer_hears_nothing) {
  const auto refused = [&](const std::shared_ptr<const tls::ServerContext>& relay) {
    connect(make_mutual());
    EXPECT_EQ(::send(client_.get(), "secret", 6, 0), 6);
    tls::ServerSession server(relay);
    EXPECT_EQ(serve(server), "");
  };
  refused(relay_of("spiffe://a.test/cart"));
  refused(relay_of("spiffe://a.test/node/b", "meshd/2"));
  context_ = context(test::make_revocation_list(authority_, {}, std::chrono::system_clock::now() - 1s));
  refused(relay_of("spiffe://a.test/node/b"));
  EXPECT_EQ(failed(), (Counts{{"certificate: revocation list out of date", 1},
                              {"identity: the server's is not allowed", 1},
                              {"tls: alert", 1}}));
}

TEST_F(MeshClientTest, resumes_with_the_same_server_until_the_context_is_another) {
  const auto relay = relay_of("spiffe://a.test/node/b");
  const auto resumed = [&] {
    connect(make_mutual());
    tls::ServerSession server(relay);
    answer(server, MeshReply::kConnected);
    EXPECT_EQ(server.peer_id()->to_string(), "spiffe://a.test/shop");
    connection_->cut("stopped");  // as rude as can be
    return server.resumed();
  };
  EXPECT_FALSE(resumed());
  EXPECT_TRUE(resumed());
  EXPECT_TRUE(resumed());
  EXPECT_EQ(stats_->resumed, 2U);
  context_ = context();
  EXPECT_FALSE(resumed());
}

TEST_F(MeshClientTest, is_closed_when_its_server_or_itself_is_not_believed_any_more) {
  const auto ended_for = [&](auto change) {
    connect(make_mutual());
    tls::ServerSession server(relay_of("spiffe://a.test/node/b"));
    answer(server, MeshReply::kConnected);
    auto now = make_mutual();
    const int before = ended_;
    connection_->recheck(now);
    EXPECT_EQ(ended_, before) << "nothing is different";
    change(*now);
    connection_->recheck(now);
    return ended_ > before;
  };
  EXPECT_FALSE(ended_for([](Listener&) {}));
  EXPECT_TRUE(ended_for([&](Listener& now) { now.mesh_client = client_of("spiffe://a.test/other/*"); }));
  EXPECT_TRUE(ended_for([&](Listener& now) {
    identities_.rules[0].cgroup = "/elsewhere";
    now.mesh_client = client_of("spiffe://a.test/node/*");
  }));
  EXPECT_TRUE(ended_for([&](Listener& now) {
    identities_.contexts = {context(test::make_revocation_list(authority_, {}, std::chrono::system_clock::now() - 1s))};
    now.mesh_client = client_of("spiffe://a.test/node/*");
  }));
  EXPECT_EQ(endings(), (Counts{{"mesh: revocation list out of date", 1},
                               {"mesh: the client has another identity", 1},
                               {"mesh: the server has another identity", 1},
                               {"stopped", 1}}));
}

TEST_F(MeshClientTest, newer_bundles_that_come_before_the_reply_are_asked_before_a_byte_is_passed_on) {
  const auto heard_of = [&](const std::string& revoked) {
    connect(make_mutual());
    EXPECT_EQ(::send(client_.get(), "secret", 6, 0), 6);
    tls::ServerSession server(relay_of("spiffe://a.test/node/b"));
    serve(server);  // the header
    auto now = make_mutual();
    identities_.contexts = {context(revoked)};
    now->mesh_client = client_of("spiffe://a.test/node/*");
    connection_->recheck(now);
    const auto byte = static_cast<std::byte>(MeshReply::kConnected);
    EXPECT_EQ(server.write({&byte, 1}), 1U);
    return serve(server);
  };
  EXPECT_EQ(heard_of(""), "secret");
  connection_->cut("stopped");
  EXPECT_EQ(heard_of(test::make_revocation_list(authority_, {}, std::chrono::system_clock::now() - 1s)), "");
  EXPECT_EQ(failed(), (Counts{{"mesh: revocation list out of date", 1}}));
  EXPECT_EQ(stats_->relayed, 1U);
}

}  // namespace
}  // namespace mesh::relay
