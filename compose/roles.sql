-- Run once by PostgreSQL's image, on an empty volume: the four roles of the federation, none of them a superuser.
-- What each may do with which table is said by the migrations.
\set ON_ERROR_STOP on
\getenv owner_password OWNER_PASSWORD
\getenv app_password APP_PASSWORD
\getenv service_password SERVICE_PASSWORD
\getenv auditor_password AUDITOR_PASSWORD
-- A statement that fails, or is logged for other reasons, must not take a password into the server's log.
SET log_statement = 'none';
SET log_min_error_statement = 'panic';
SET log_min_duration_statement = -1;
SET password_encryption = 'scram-sha-256';
CREATE ROLE federation_owner LOGIN NOSUPERUSER NOCREATEDB NOCREATEROLE NOBYPASSRLS PASSWORD :'owner_password';
CREATE ROLE federation_app LOGIN NOSUPERUSER NOCREATEDB NOCREATEROLE NOBYPASSRLS PASSWORD :'app_password';
CREATE ROLE federation_service LOGIN NOSUPERUSER NOCREATEDB NOCREATEROLE NOBYPASSRLS PASSWORD :'service_password';
CREATE ROLE federation_auditor LOGIN NOSUPERUSER NOCREATEDB NOCREATEROLE NOBYPASSRLS PASSWORD :'auditor_password';
ALTER DATABASE federation OWNER TO federation_owner;
REVOKE ALL ON DATABASE federation FROM PUBLIC;
GRANT CONNECT ON DATABASE federation TO federation_owner, federation_app, federation_service, federation_auditor;
